{{/* Settings that follow from the release, of every process of ingest. As YAML. */}}
{{- define "ingest.derived" -}}
{{- $warehouse := (.Values.global).warehouse | default dict -}}
catalog_url: {{ include "lakegate.url" (dict "root" . "component" "catalog" "port" "api") }}
token_exchange_url: {{ include "lakegate.url" (dict "root" . "component" "gateway" "port" "management") }}/internal/token
spool:
  dir: /var/lib/lakegate/spool
quarantine:
  location: {{ $warehouse.location | default "" | quote }}
{{- with $warehouse.options }}
objects:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
