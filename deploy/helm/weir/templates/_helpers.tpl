{{- define "weir.name" -}}
{{- if contains "weir" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-weir" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "weir.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* weir.yaml: the values' config, and what the manifests around it need. */ -}}
{{- define "weir.config" -}}
{{- $own := dict
  "listen" "0.0.0.0:8080"
  "run_dir" "/run/weir"
  "metrics" (dict "listen" "0.0.0.0:9091")
  "keys" (dict "files" (list "/etc/weir/keys/keys.yaml"))
  "ledger" (dict "file" .Values.ledger)
  "envoy" (merge (dict) (get .Values.config "envoy" | default dict) (dict "max_heap_bytes" (int64 .Values.maxHeapBytes)))
}}
{{- if .Values.redis.url }}
{{- $redis := dict "url" .Values.redis.url "timeout" .Values.redis.timeout }}
{{- if .Values.redis.passwordSecret }}{{ $_ := set $redis "password_file" "/etc/weir/redis/password" }}{{ end }}
{{- $_ := set $own "store" (dict "redis" $redis) }}
{{- end }}
{{- if .Values.tlsSecret }}
{{- $_ := set $own "tls" (dict "cert_file" "/etc/weir/tls/tls.crt" "key_file" "/etc/weir/tls/tls.key") }}
{{- end }}
{{- merge $own .Values.config | toYaml }}
{{- end }}
