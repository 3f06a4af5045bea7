{{- define "base.checks" -}}
{{- if include "lakegate.colour" . -}}
{{- fail (printf "global.colour is %s and base.enabled is true: the base belongs to no colour. Install it once by itself (releases/base.yaml), and the colours with releases/blue.yaml and releases/green.yaml." (include "lakegate.colour" .)) -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) -}}
{{- fail "base.httpRoute is enabled without parentRefs: name the Gateway that serves it, as [{name: public, namespace: gateways}]." -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.ingress.tls.secretName (not .Values.ingress.host) -}}
{{- fail "base.ingress.tls.secretName is set without base.ingress.host: a certificate is for a name." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (eq ((.Values.global).environment | default "dev") "prod") (not .Values.ingress.tls.secretName) -}}
{{- fail "base.ingress has no tls.secretName in production: keys and tokens would travel in the clear. Name a Secret with the certificate, or end TLS before the cluster and set global.environment to another name." -}}
{{- end -}}
{{- if and .Values.warehouseVolume.create (not (include "lakegate.warehouseFolder" .)) -}}
{{- fail (printf "base.warehouseVolume.create is true, but the warehouse (global.warehouse.location: %s) is no folder." (((.Values.global).warehouse).location | default "not set")) -}}
{{- end -}}
{{- if and .Values.quota.enabled (empty .Values.quota.hard) -}}
{{- fail "base.quota is enabled and base.quota.hard is empty: say how much, as {requests.cpu: \"8\", limits.memory: 16Gi}." -}}
{{- end -}}
{{- end }}
