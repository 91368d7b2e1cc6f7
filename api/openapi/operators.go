package openapi

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// description is a part of a document.
type description struct {
	tags    []object
	paths   object
	schemas object
	notes   map[string]string // comments of the schema, by "Service.Method" and "Message.field"
}

// operators describes the admin API.
func operators() *description {
	d := &description{paths: object{}, schemas: object{}, notes: comments(adminv1.Source)}
	services := adminv1.File_weir_admin_v1_admin_proto.Services()
	for i := range services.Len() {
		d.service(services.Get(i))
	}
	d.plain()
	return d
}

// elsewhere is where the admin API listens.
func elsewhere() []object {
	return []object{{
		"url": "{admin}", "description": "admin.listen of weir.yaml",
		"variables": object{"admin": object{"default": "http://127.0.0.1:9090"}},
	}}
}

func (d *description) service(s protoreflect.ServiceDescriptor) {
	tag := "admin: " + string(s.Name())
	d.tags = append(d.tags, object{"name": tag, "description": d.notes[string(s.Name())]})
	methods := s.Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		d.paths["/"+string(s.FullName())+"/"+string(m.Name())] = object{
			"servers": elsewhere(),
			"post": object{
				"operationId": string(s.Name()) + "_" + string(m.Name()), "tags": []string{tag}, "summary": d.notes[string(s.Name())+"."+string(m.Name())],
				"security":    []object{{"token": []string{}}},
				"requestBody": object{"required": true, "content": asJSON(d.reference(m.Input()))},
				"responses": object{
					"200":     object{"description": "Done.", "content": asJSON(d.reference(m.Output()))},
					"default": object{"description": "Refused.", "content": asJSON(d.refusal())},
				},
			},
		}
	}
}

// refusal is an error of Connect's protocol, <https://connectrpc.com/docs/protocol/#error-end-stream>.
func (d *description) refusal() object {
	d.schemas["admin.Refusal"] = object{
		"type": "object", "required": []string{"code"},
		"properties": object{"code": text("such as not_found, failed_precondition, invalid_argument, unauthenticated"), "message": text("for people"), "details": object{"type": "array", "items": object{}}},
	}
	return object{"$ref": "#/components/schemas/admin.Refusal"}
}

// plain are the paths that are no services.
func (d *description) plain() {
	const tag = "admin: plain"
	d.tags = append(d.tags, object{"name": tag, "description": "For scripts"})
	refused := object{"description": "Refused.", "content": asJSON(object{"type": "object", "required": []string{"error"}, "properties": object{"error": text("")}})}
	post := func(id, summary string, answer object, parameters ...object) object {
		return object{"servers": elsewhere(), "post": object{
			"operationId": id, "tags": []string{tag}, "summary": summary, "security": []object{{"token": []string{}}}, "parameters": parameters,
			"responses": object{"200": object{"description": "Done.", "content": asJSON(answer)}, "default": refused},
		}}
	}
	d.paths["/admin/reload-keys"] = post("reloadKeys", "Read the key files again", object{
		"type": "object", "required": []string{"status", "keys", "loaded"},
		"properties": object{"status": object{"type": "string", "enum": []string{"success"}}, "keys": object{"type": "integer"}, "loaded": object{"type": "string", "format": "date-time"}},
	}, query("force", "true: although more than half of the keys in use are gone"))
	d.paths["/admin/reset-failed-keys"] = post("resetFailedKeys", "Forget what upstream keys have failed with", object{
		"type": "object", "required": []string{"changed"}, "properties": object{"changed": object{"type": "integer"}},
	}, query("upstream", "Only keys of this upstream"), query("key", "Only the key of this id or label"))
	d.paths["/metrics"] = object{"servers": elsewhere(), "get": object{
		"operationId": "metrics", "tags": []string{tag}, "summary": "Prometheus metrics", "security": []object{{"token": []string{}}},
		"responses": object{
			"200":     object{"description": "Metrics.", "content": object{"text/plain": object{"schema": text("")}}},
			"default": refused,
		},
	}}
}

func query(name, says string) object {
	return object{"name": name, "in": "query", "required": false, "description": says, "schema": object{"type": "string"}}
}

func asJSON(schema object) object { return object{"application/json": object{"schema": schema}} }

func text(says string) object {
	s := object{"type": "string"}
	if says != "" {
		s["description"] = says
	}
	return s
}
