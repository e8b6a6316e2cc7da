{{/* What the brokers' pods and the Job that makes the store have alike. */}}
{{- define "leasehold.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "leasehold.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "leasehold.mounts" -}}
- { name: config, mountPath: /etc/leasehold/config, readOnly: true }
{{- if not .Values.workloadApi.certificate }}
- { name: tls, mountPath: /etc/leasehold/tls, readOnly: true }
{{- end }}
{{- if .Values.workloadApi.csiDriver }}
- { name: workload-api, mountPath: /spiffe-workload-api, readOnly: true }
{{- end }}
- { name: keyring, mountPath: /etc/leasehold/keyring, readOnly: true }
- { name: cluster-ca, mountPath: /var/run/leasehold/cluster-ca, readOnly: true }
{{- if .Values.tokenReview.issuer }}
- { name: api-token, mountPath: /var/run/leasehold/api-token, readOnly: true }
{{- end }}
{{- if or .Values.trustBundles.inline .Values.trustBundles.existingConfigMap }}
- { name: bundles, mountPath: /etc/leasehold/bundles, readOnly: true }
{{- end }}
{{- if .Values.ca.existingSecret }}
- { name: ca, mountPath: /etc/leasehold/ca, readOnly: true }
{{- end }}
{{- if include "leasehold.isEmbedded" . }}
- { name: data, mountPath: /var/lib/leasehold }
{{- else }}
{{- if .Values.redis.passwordSecret.name }}
- { name: redis-password, mountPath: /etc/leasehold/redis-password, readOnly: true }
{{- end }}
{{- if .Values.redis.caSecret.name }}
- { name: redis-ca, mountPath: /etc/leasehold/redis-ca, readOnly: true }
{{- end }}
{{- if .Values.redis.clientSecret }}
- { name: redis-client, mountPath: /etc/leasehold/redis-client, readOnly: true }
{{- end }}
{{- end }}
{{- end }}

{{- define "leasehold.volumes" -}}
- name: config
  configMap: { name: {{ include "leasehold.fullname" . }} }
{{- if not .Values.workloadApi.certificate }}
- name: tls
  secret: { secretName: {{ .Values.tls.existingSecret }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.workloadApi.csiDriver }}
- name: workload-api
  csi: { driver: {{ .Values.workloadApi.csiDriver }}, readOnly: true }
{{- end }}
- name: keyring
  secret: { secretName: {{ .Values.keyring.existingSecret }}, defaultMode: 0440 }
- name: cluster-ca
  configMap: { name: kube-root-ca.crt }
{{- if .Values.tokenReview.issuer }}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: { path: token, expirationSeconds: 3600 }
{{- end }}
{{- if or .Values.trustBundles.inline .Values.trustBundles.existingConfigMap }}
- name: bundles
  configMap: { name: {{ .Values.trustBundles.existingConfigMap | default (printf "%s-bundles" (include "leasehold.fullname" .)) }} }
{{- end }}
{{- if .Values.ca.existingSecret }}
- name: ca
  secret: { secretName: {{ .Values.ca.existingSecret }}, defaultMode: 0440 }
{{- end }}
{{- if include "leasehold.isEmbedded" . }}
- name: data
  persistentVolumeClaim: { claimName: {{ .Values.persistence.existingClaim | default (include "leasehold.fullname" .) }} }
{{- else }}
{{- if .Values.redis.passwordSecret.name }}
- name: redis-password
  secret: { secretName: {{ .Values.redis.passwordSecret.name }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.redis.caSecret.name }}
- name: redis-ca
  secret: { secretName: {{ .Values.redis.caSecret.name }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.redis.clientSecret }}
- name: redis-client
  secret: { secretName: {{ .Values.redis.clientSecret }}, defaultMode: 0440 }
{{- end }}
{{- end }}
{{- end }}
