{{/*
Names and labels. `.Chart.Name` is the component: gateway, catalog, ingest, stream-worker, lineage, base.
*/}}

{{/* Whose code and settings a component has: the stream worker is a process of ingest. */}}
{{- define "lakegate.package" -}}
{{- ternary "ingest" .Chart.Name (eq .Chart.Name "stream-worker") -}}
{{- end }}

{{/*
Whole, whatever the release is called: a name that was cut could be another component's, or the other colour's. helm
takes 53 characters, and with a Service's component that is less than the 63 of a DNS label.
*/}}
{{- define "lakegate.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name -}}
{{- end }}

{{/* For Jobs, which may have fewer characters: {text, ending, most}. What does not fit gives way to a digest of it all. */}}
{{- define "lakegate.shortened" -}}
{{- $room := int (sub .most (len .ending)) -}}
{{- if le (len .text) $room -}}
{{- printf "%s%s" .text .ending -}}
{{- else -}}
{{- printf "%s-%s%s" (trunc (int (sub $room 7)) .text | trimSuffix "-") (sha256sum .text | trunc 6) .ending -}}
{{- end -}}
{{- end }}

{{/* Another component of the same release: {root, component}. A colour calls its own colour's services. */}}
{{- define "lakegate.sibling" -}}
{{- printf "%s-%s" .root.Release.Name .component -}}
{{- end }}

{{- define "lakegate.colour" -}}
{{- (.Values.global | default dict).colour | default "" -}}
{{- end }}

{{/* What selects a component's pods; never changes, since a Deployment's selector can't. */}}
{{- define "lakegate.selector" -}}
app.kubernetes.io/name: lakegate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Chart.Name }}
{{- end }}

{{- define "lakegate.labels" -}}
{{ include "lakegate.selector" . }}
{{ include "lakegate.releaseLabels" . }}
{{- end }}

{{- define "lakegate.releaseLabels" -}}
app.kubernetes.io/part-of: lakegate
app.kubernetes.io/version: {{ include "lakegate.version" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (include "lakegate.package" .) .Chart.Version | quote }}
{{- with include "lakegate.colour" . }}
lakegate.io/colour: {{ . }}
{{- end }}
{{- end }}

{{/* The labels of pods that hooks start (migrations, smoke test): {root, component}. No Service selects them. */}}
{{- define "lakegate.hookLabels" -}}
app.kubernetes.io/name: lakegate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{ include "lakegate.releaseLabels" .root }}
{{- end }}

{{/* As a label may be: a tag may be longer, and begin and end otherwise. */}}
{{- define "lakegate.version" -}}
{{- $global := .Values.global | default dict -}}
{{- (.Values.image).tag | default ($global.image).tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." -}}
{{- end }}

{{/* registry/repository:tag, or @digest when there is one. */}}
{{- define "lakegate.image" -}}
{{- $global := .Values.global | default dict -}}
{{- $registry := ($global.image).registry | default "localhost" | trimSuffix "/" -}}
{{- $image := .Values.image -}}
{{- if and (not $image.digest) (eq ($image.tag | default ($global.image).tag) "latest") -}}
{{- fail (printf "the image %s has the tag latest: nobody could say what runs, a node that has an older one would keep it, and there would be nothing to roll back to. Name a version or a digest (global.image.tag, or the tag or digest of the image)." $image.repository) -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s/%s@%s" $registry $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s/%s:%s" $registry $image.repository ($image.tag | default ($global.image).tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}
