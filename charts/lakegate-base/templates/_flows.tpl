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
