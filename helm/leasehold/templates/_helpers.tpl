{{- define "leasehold.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "leasehold.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "leasehold.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "leasehold.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "leasehold.selectorLabels" -}}
app.kubernetes.io/name: {{ include "leasehold.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The brokers' pods, and not the Job's. */}}
{{- define "leasehold.brokers" -}}
{{ include "leasehold.selectorLabels" . }}
app.kubernetes.io/component: broker
{{- end }}

{{- define "leasehold.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "leasehold.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "leasehold.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "leasehold.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "leasehold.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "leasehold.isEmbedded" -}}
{{- if eq .Values.config.store.kind "embedded" }}yes{{ end }}
{{- end }}

{{/* The configuration file: the values, and where the chart mounts what they refer to. */}}
{{- define "leasehold.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $listen := dict "grpc" "0.0.0.0:7700" "http" "0.0.0.0:7701" }}
{{- $_ := set $config "listen" $listen }}
{{- if .Values.workloadApi.certificate }}
{{- $_ := set $config "tls" (dict "workload_api" (printf "unix:///spiffe-workload-api/%s" .Values.workloadApi.socket)) }}
{{- else }}
{{- $_ := set $config "tls" (dict "cert_file" "/etc/leasehold/tls/tls.crt" "key_file" "/etc/leasehold/tls/tls.key") }}
{{- end }}
{{- $keys := merge (dict "encryption_key_file" (printf "/etc/leasehold/keyring/%s" .Values.keyring.key)) (default (dict) $config.keys) }}
{{- if .Values.ca.existingSecret }}
{{- $ca := "/etc/leasehold/ca" }}
{{- $_ := set $keys "ca" (dict "root_cert_file" (printf "%s/root.pem" $ca) "intermediate_cert_file" (printf "%s/intermediate.pem" $ca) "intermediate_key_file" (printf "%s/intermediate.key" $ca)) }}
{{- end }}
{{- $_ := set $config "keys" $keys }}
{{- if include "leasehold.isEmbedded" . }}
{{- $_ := set $config "store" (dict "kind" "embedded" "path" "/var/lib/leasehold/store") }}
{{- else }}
{{- if .Values.redis.passwordSecret.name }}
{{- $_ := set $config.store "password_file" (printf "/etc/leasehold/redis-password/%s" .Values.redis.passwordSecret.key) }}
{{- end }}
{{- if .Values.redis.caSecret.name }}
{{- $_ := set $config.store "ca_file" (printf "/etc/leasehold/redis-ca/%s" .Values.redis.caSecret.key) }}
{{- end }}
{{- if .Values.redis.clientSecret }}
{{- $_ := set $config.store "cert_file" "/etc/leasehold/redis-client/tls.crt" }}
{{- $_ := set $config.store "key_file" "/etc/leasehold/redis-client/tls.key" }}
{{- end }}
{{- end }}
{{- range $trusted := default (list) $config.trust.spiffe }}
{{- range $name := list "file" "bootstrap_file" "ca_file" }}
{{- if hasKey $trusted.bundle $name }}
{{- $_ := set $trusted.bundle $name (printf "/etc/leasehold/bundles/%s" (get $trusted.bundle $name)) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.tokenReview.issuer }}
{{- $name := . }}
{{- $review := dict "api_server" "https://kubernetes.default.svc" "token_file" "/var/run/leasehold/api-token/token" "ca_file" "/var/run/leasehold/cluster-ca/ca.crt" }}
{{- $reviewed := false }}
{{- range $trusted := default (list) $config.trust.oidc }}
{{- if eq $trusted.name $name }}{{ $reviewed = set $trusted "token_review" $review }}{{ end }}
{{- end }}
{{- if not $reviewed }}{{ fail "tokenReview.issuer: no issuer of config.trust.oidc has this name" }}{{ end }}
{{- end }}
{{- /* A table or list of nothing is a mistake in the file; in values it takes a default away. */ -}}
{{- range $table := list $config $config.trust }}
{{- range $key := keys $table | sortAlpha }}
{{- if not (get $table $key) }}{{ $_ := unset $table $key }}{{ end }}
{{- end }}
{{- end }}
{{- /* Numbers of values are floats to Helm, and no field of the configuration is one. */ -}}
{{- regexReplaceAll "(?m)^(\\s*[\\w-]+ = -?[0-9]+)\\.0$" (toToml $config) "${1}" }}
{{- end }}
