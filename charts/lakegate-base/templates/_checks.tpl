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
{{- $priority := (.Values.global).priorityClassName | default "" -}}
{{- if and .Values.priorityClasses.create (has $priority (list .Values.priorityClasses.front.name .Values.priorityClasses.work.name)) -}}
{{- fail (printf "global.priorityClassName is %s, which base.priorityClasses.create would make after the first hooks have run with it: no pod of them could be made, and the install would wait for nothing. Make the class beforehand and set base.priorityClasses.create=false, or name one that is there." $priority) -}}
{{- end -}}
{{- if .Values.priorityClasses.create -}}
{{- range $class := list .Values.priorityClasses.front.name .Values.priorityClasses.work.name -}}
{{- with lookup "scheduling.k8s.io/v1" "PriorityClass" "" $class -}}
{{- $notes := .metadata.annotations | default dict -}}
{{- $owner := printf "%s/%s" (get $notes "meta.helm.sh/release-namespace") (get $notes "meta.helm.sh/release-name") -}}
{{- if ne $owner (printf "%s/%s" $.Release.Namespace $.Release.Name) -}}
{{- fail (printf "base.priorityClasses.create is true, and the cluster has the PriorityClass %s already (%s): one release makes them for all. Set base.priorityClasses.create=false to use it, or give other names, in base.priorityClasses and in priorityClassName of each service." $class (ternary "which no release has made" (printf "of the release %s" $owner) (eq $owner "/"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "base.policyChecks" . -}}
{{- include "lakegate.resourcesCheck" (dict "place" "base.provision.resources" "resources" .Values.provision.resources) -}}
{{- include "lakegate.labelsCheck" (dict "place" "base.rules.labels" "labels" .Values.rules.labels) -}}
{{- include "lakegate.labelsCheck" (dict "place" "base.dashboards.labels" "labels" .Values.dashboards.labels) -}}
{{- include "lakegate.labelsCheck" (dict "place" "global.monitoring.labels" "labels" (((.Values.global).monitoring).labels)) -}}
{{- if and .Values.quota.enabled (empty .Values.quota.hard) -}}
{{- fail "base.quota is enabled and base.quota.hard is empty: say how much, as {requests.cpu: \"8\", limits.memory: 16Gi}." -}}
{{- end -}}
{{- end }}

{{/* Whatever the suite is told to use has to be let through: a pod that is kept from it only sees time-outs. */}}
{{- define "base.policyChecks" -}}
{{- $policies := .Values.networkPolicies -}}
{{- if $policies.enabled -}}
{{- range $server, $use := include "base.serversInUse" . | fromYaml -}}
{{- $target := get $policies $server | default dict -}}
{{- if empty $target.to -}}
{{- fail (printf "%s, but base.networkPolicies.%s.to is empty: the default-deny policy would keep every pod from it. Say where it is: base.networkPolicies.%s={to: [{ipBlock: {cidr: 10.0.0.5/32}}], ports: [%v]} outside the cluster, {to: [{podSelector: {matchLabels: {app.kubernetes.io/name: NAME}}}], ports: [%v]} for pods of this namespace." $use.because $server $server (first $use.ports) (first $use.ports)) -}}
{{- end -}}
{{- /* A policy sees the port of the pod, which behind a Service may be another: only of addresses it is known. */ -}}
{{- $addresses := true -}}
{{- range $target.to }}{{- if not .ipBlock }}{{- $addresses = false }}{{ end }}{{ end -}}
{{- range $port := $use.ports -}}
{{- $open := not $addresses -}}
{{- range $target.ports }}{{- if eq (int .) (int $port) }}{{- $open = true }}{{ end }}{{ end -}}
{{- if not $open -}}
{{- fail (printf "%s, at port %v, but base.networkPolicies.%s.ports (%s) does not let it through. Add %v to base.networkPolicies.%s.ports." $use.because $port $server (join ", " $target.ports) $port $server) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if empty $policies.monitoringFrom -}}
{{- fail "base.networkPolicies.monitoringFrom is empty, which in a NetworkPolicy means everybody: name who reads metrics, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}, podSelector: {matchLabels: {app.kubernetes.io/name: prometheus}}}]." -}}
{{- end -}}
{{- if empty $policies.dns.to -}}
{{- fail "base.networkPolicies.dns.to is empty, which in a NetworkPolicy means everywhere: name the DNS server's pods, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]." -}}
{{- end -}}
{{- if and (empty .Values.rollout.apiServer.to) (or (eq .Values.mode "blueGreen") ((.Values.global).loadJobs).enabled) -}}
{{- fail "base.rollout.apiServer.to is empty, which in a NetworkPolicy means everywhere: name the addresses of `kubectl get endpointslices kubernetes`, as [{ipBlock: {cidr: 10.0.0.1/32}}]." -}}
{{- end -}}
{{- end -}}
{{- end }}
