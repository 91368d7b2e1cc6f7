package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"

	"go.yaml.in/yaml/v3"
)

//go:embed clients.yaml
var clients []byte

// object is a JSON object.
type object = map[string]any

// Document returns the document as JSON, for that version of weir.
func Document(version string) ([]byte, error) {
	var doc struct {
		OpenAPI    string            `yaml:"openapi" json:"openapi"`
		Info       object            `yaml:"info" json:"info"`
		Servers    []object          `yaml:"servers" json:"servers"`
		Tags       []object          `yaml:"tags" json:"tags"`
		Security   []object          `yaml:"security" json:"security"`
		Paths      object            `yaml:"paths" json:"paths"`
		Components map[string]object `yaml:"components" json:"components"`
	}
	if err := yaml.Unmarshal(clients, &doc); err != nil {
		return nil, fmt.Errorf("describe clients' endpoints: %w", err)
	}
	doc.Info["version"] = version
	o := operators()
	doc.Tags = append(doc.Tags, o.tags...)
	maps.Copy(doc.Paths, o.paths)
	maps.Copy(doc.Components["schemas"], o.schemas)
	doc.Components["securitySchemes"]["token"] = object{"type": "http", "scheme": "bearer", "description": "The admin token: the content of `admin.token_file`"}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("print the description: %w", err)
	}
	return text, nil
}
