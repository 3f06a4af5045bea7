{{/* The ports of a component: {"api": …, "management": …}. The same in every environment, so not a value. */}}
{{- define "lakegate.ports" -}}
{{- $ports := dict
      "gateway" (dict "api" 8080 "management" 9080)
      "catalog" (dict "api" 8081 "management" 9081)
      "ingest" (dict "api" 8082 "management" 9082)
      "stream-worker" (dict "api" 8082 "management" 9082)
      "lineage" (dict "api" 8083 "management" 9083) -}}
{{- get $ports . | toYaml -}}
{{- end }}

{{/* http://<service of this release>:<port>: {root, component, port}. */}}
{{- define "lakegate.url" -}}
{{- $ports := include "lakegate.ports" .component | fromYaml -}}
{{- printf "http://%s:%v" (include "lakegate.sibling" .) (get $ports .port) -}}
{{- end }}
