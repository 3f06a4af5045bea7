{{/*
Settings become variables as docs/settings.md names them: a nested map is joined with "__", under the service's
prefix. What the chart derives itself (addresses of other services, folders, ports) lies below what values say.
*/}}

{{/* Variables of a map: {prefix, settings, json: paths whose maps are one JSON value}. YAML of name: "value". */}}
{{- define "lakegate.variables" -}}
{{- $top := . -}}
{{- range $name, $value := .settings }}
{{- $path := ternary $name (printf "%s.%s" $top.path $name) (empty $top.path) }}
{{- $variable := printf "%s%s" $top.prefix (upper $name) }}
{{- if and (kindIs "map" $value) (not (has $path $top.json)) }}
{{ include "lakegate.variables" (dict "prefix" (printf "%s__" $variable) "path" $path "settings" $value "json" $top.json) }}
{{- else if kindIs "map" $value }}
{{ $variable }}: {{ $value | toJson | quote }}
{{- else if kindIs "slice" $value }}
{{ $variable }}: {{ $value | toJson | quote }}
{{- else if not (kindIs "invalid" $value) }}
{{ $variable }}: {{ include "lakegate.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* A number as the services read it: helm holds all numbers as floats, and would write 6.8719476736e+10. */}}
{{- define "lakegate.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end }}

{{/* {root, derived, json} -> all variables of a service that are no secrets. */}}
{{- define "lakegate.configuration" -}}
{{- $root := .root -}}
{{- $global := $root.Values.global | default dict -}}
{{- $ports := include "lakegate.ports" $root.Chart.Name | fromYaml -}}
{{- $common := dict
      "host" "0.0.0.0" "port" $ports.api
      "management_host" "0.0.0.0" "management_port" $ports.management
      "environment" ($global.environment | default "dev")
      "drain_seconds" $root.Values.drain.seconds
      "finish_seconds" (include "lakegate.finishSeconds" $root.Values.drain)
      "sweeps_in_process" (not $root.Values.sweep.enabled) -}}
{{- with ($global.trace).endpoint }}{{- $_ := set $common "trace" (dict "endpoint" .) }}{{- end }}
{{- if and ($global.kafka).bootstrap (ne $root.Chart.Name "gateway") }}
{{- $_ := set $common "kafka" (deepCopy $global.kafka) }}
{{- end }}
{{- if include "lakegate.takesTurns" $root }}
{{- $_ := set $common "consumers" (dict "colour" $global.colour "file" "/etc/lakegate/turn/consumers" "key_file" "/etc/lakegate/rollout/key") }}
{{- end }}
{{- $settings := mergeOverwrite $common .derived (deepCopy $root.Values.settings) -}}
{{- include "lakegate.variables" (dict "prefix" (printf "%s_" (upper (include "lakegate.package" $root))) "path" "" "settings" $settings "json" (concat (list "tenant_classes") (.json | default list))) -}}
{{- end }}

{{/* What of a pod's grace is left to requests under way: after them it stops what runs beside them, in 10 s. */}}
{{- define "lakegate.finishSeconds" -}}
{{- max 35 (sub .graceSeconds (add .preStopSeconds (ceil .seconds) 10)) -}}
{{- end }}

{{/* With two colours alive the consumers of one run: which, says a ConfigMap of the base release. */}}
{{- define "lakegate.takesTurns" -}}
{{- if and (include "lakegate.colour" .) (ne .Chart.Name "gateway") }}true{{ end -}}
{{- end }}

{{/* The variable of a dotted path: {root, path}. */}}
{{- define "lakegate.variable" -}}
{{- printf "%s_%s" (upper (include "lakegate.package" .root)) (.path | upper | replace "." "__") -}}
{{- end }}

{{- define "lakegate.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "lakegate.name" .root }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "lakegate.labels" .root | nindent 4 }}
data:
  {{- include "lakegate.configuration" . | nindent 2 }}
{{- end }}
