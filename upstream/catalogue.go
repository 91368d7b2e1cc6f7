package upstream

import (
	"slices"

	"github.com/weir-gateway/weir/config"
)

// catalogue is the built-in list of models with their context windows in tokens.
var catalogue = []config.Model{
	{Name: "qwen/qwen3-next-80b-a3b-instruct", Context: 262_000},
	{Name: "moonshotai/kimi-k2-instruct-0905", Context: 256_000},
	{Name: "deepseek-ai/deepseek-v3.1-terminus", Context: 164_000},
	{Name: "llama3.3-70b-instruct", Context: 131_000},
	{Name: "alibaba-qwen3-32b", Context: 131_000},
	{Name: "openai-gpt-oss-120b", Context: 128_000},
	{Name: "openai-gpt-oss-20b", Context: 128_000},
	{Name: "deepseek-r1-distill-llama-70b", Context: 128_000},
	{Name: "deepseek-ai/deepseek-v3.1", Context: 128_000},
	{Name: "mistralai/mistral-nemotron", Context: 128_000},
	{Name: "minimaxai/minimax-m2", Context: 128_000},
	{Name: "llama3-8b-instruct", Context: 8_000},
}

// catalogued is the context window of a model of the catalogue, 0 of others.
func catalogued(name string) int64 {
	for _, m := range catalogue {
		if m.Name == name {
			return m.Context
		}
	}
	return 0
}

// InCatalogue are the models of the catalogue.
func InCatalogue() []config.Model { return slices.Clone(catalogue) }
