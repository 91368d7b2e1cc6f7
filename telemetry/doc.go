// Package telemetry makes weir's logger, its metrics and its traces.
//
// Metrics come under three kinds of names: five plain ones that dashboards of
// older gateways know (http_requests_total and its like), those of OpenTelemetry's
// GenAI conventions (gen_ai_*), and weir's own, which begin with weir_. Labels come
// from closed sets: endpoints, statuses, models and limits of the configuration, never
// anything that a client chose; and each metric has a bound on its series.
//
// Traces have one span an exchange, and are off unless the environment asks for them.
package telemetry
