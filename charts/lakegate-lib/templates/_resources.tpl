{{/*
Everything a service's chart is made of: {root, derived, json, volumes, warehouse}.
derived: settings that follow from the release; json: settings whose maps are one JSON value; volumes: of the pod;
warehouse: whether the service works on the warehouse's files itself.
*/}}
{{- define "lakegate.resources" -}}
{{- $root := .root -}}
{{- include "lakegate.checks" . -}}
{{- $configuration := include "lakegate.configmap" . -}}
{{ include "lakegate.serviceAccount" $root }}
---
{{ $configuration }}
---
{{ include "lakegate.service" $root }}
---
{{ include "lakegate.deployment" (merge (dict "configuration" $configuration) .) }}
---
{{ include "lakegate.autoscaler" $root }}
---
{{ include "lakegate.scaledObject" $root }}
---
{{ include "lakegate.disruption" $root }}
---
{{ include "lakegate.serviceMonitor" $root }}
---
{{ include "lakegate.sweep" . }}
---
{{ include "lakegate.migration" $root }}
{{- end }}
