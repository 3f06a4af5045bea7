{{/* Who calls whom inside the suite; a test compares it with the architecture. */}}
{{- define "base.flows" -}}
- {from: gateway, to: catalog, port: http}
- {from: gateway, to: ingest, port: http}
- {from: gateway, to: lineage, port: http}
# an Iceberg commit
- {from: ingest, to: catalog, port: http}
# a delegation for a fresh token, at the gateway's private port
- {from: ingest, to: gateway, port: management}
# the same two, for event streams
- {from: stream-worker, to: catalog, port: http}
- {from: stream-worker, to: gateway, port: management}
# what a failed load left is deleted once its table says that no snapshot has it
- {from: sweep, to: catalog, port: http}
- {from: sweep, to: gateway, port: management}
{{- if ((.Values.global).loadJobs).enabled }}
# a large load in a Job: what ingest does, without the API
- {from: worker, to: catalog, port: http}
- {from: worker, to: gateway, port: management}
{{- end }}
{{- end }}

{{/* Who uses which data server. */}}
{{- define "base.servers" -}}
postgres: [gateway, catalog, ingest, stream-worker, lineage, migrate, sweep, worker]
kafka: [catalog, ingest, stream-worker, lineage]
mongodb: [catalog]
objectStore: [catalog, ingest, stream-worker, sweep, worker]
traces: [gateway, catalog, ingest, stream-worker, lineage, sweep, worker]
{{- end }}

{{/* All that have a management port. */}}
{{- define "base.components" -}}
[gateway, catalog, ingest, stream-worker, lineage]
{{- end }}

{{- define "base.member" -}}
app.kubernetes.io/part-of: lakegate
app.kubernetes.io/component: {{ .component }}
{{- with .colour }}
lakegate.io/colour: {{ . }}
{{- end }}
{{- end }}

{{/*
The data servers that these values lead to: why, and at which ports. MongoDB's address is a setting of the catalog, and
looked at in the umbrella.
*/}}
{{- define "base.serversInUse" -}}
{{- $global := .Values.global | default dict -}}
postgres: {because: Lakegate keeps its state in PostgreSQL, ports: [{{ first (.Values.networkPolicies.postgres | default (dict "ports" (list 5432))).ports }}]}
{{- with ($global.kafka).bootstrap }}
kafka:
  because: {{ printf "global.kafka.bootstrap is %s" . | quote }}
  ports:
    {{- range splitList "," . }}
    - {{ regexFind "[0-9]+$" . | default "9092" }}
    {{- end }}
{{- end }}
{{- $location := ($global.warehouse).location | default "file://" }}
{{- if not (hasPrefix "file:" $location) }}
objectStore:
  because: {{ printf "global.warehouse.location is %s" $location | quote }}
  ports: [{{ include "base.portOf" ((($global.warehouse).options).endpoint | default "https://") }}]
{{- end }}
{{- with ($global.trace).endpoint }}
traces:
  because: {{ printf "global.trace.endpoint is %s" . | quote }}
  ports: [{{ include "base.portOf" . }}]
{{- end }}
{{- end }}

{{- define "base.portOf" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" (urlParse .).host) | default (ternary "80" "443" (hasPrefix "http://" .)) -}}
{{- end }}
