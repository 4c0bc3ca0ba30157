{{/* What all pods have: whom they belong to and where they may run. Takes root, component and config, what its file says. */}}
{{- define "holdfast.placement" -}}
{{- $ := .root -}}
metadata:
  labels:
    {{- include "holdfast.selector" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with $.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ .config | sha256sum }}
    {{- with $.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # The platform's own tokens (EKS, GKE, AKS) come as volumes of their own where a provider needs one.
  automountServiceAccountToken: false
  # Their variables (HOLDFAST_…) would be taken for settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $.Values.terminationGracePeriodSeconds }}
  {{- with $.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $.Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if $.Values.topologySpreadConstraints }}
    {{- toYaml $.Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    {{- $component := .component }}
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "holdfast.selector" $ | nindent 10 }}
          app.kubernetes.io/component: {{ $component }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* The program as it runs in every pod; the rest of the container follows. */}}
{{- define "holdfast.container" -}}
name: holdfast
image: {{ include "holdfast.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
# No probe asks the chain. /livez: the process answers.
startupProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* The signer's pod, the same for both kinds. */}}
{{- define "holdfast.pod" -}}
{{- $full := include "holdfast.fullname" . -}}
{{- include "holdfast.placement" (dict "root" . "component" "signer" "config" .Values.config) }}
  serviceAccountName: {{ include "holdfast.serviceAccount" . }}
  containers:
    - {{ include "holdfast.container" . | nindent 6 | trim }}
      args:
        - --config
        - /etc/holdfast/holdfast.toml
        - serve
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: HOLDFAST_DATA_DIR
          value: /var/lib/holdfast/data
        - name: HOLDFAST_NETWORK_NAME
          value: {{ .Values.network | quote }}
        - name: HOLDFAST_HTTP_LISTEN
          value: "0.0.0.0:{{ .Values.http.port }}"
        - name: HOLDFAST_METRICS_LISTEN
          value: "0.0.0.0:{{ .Values.metrics.port }}"
        - name: HOLDFAST_HTTP_ALLOWED_HOSTS
          value: {{ concat .Values.http.allowedHosts (list "localhost" "127.0.0.1" $full (printf "%s.%s" $full .Release.Namespace) (printf "%s.%s.svc" $full .Release.Namespace) (printf "%s.%s.svc.cluster.local" $full .Release.Namespace)) | join "," | quote }}
        - name: HOLDFAST_HTTP_SHUTDOWN_DELAY_SECONDS
          value: {{ .Values.shutdownDelaySeconds | quote }}
        {{- if .Values.http.allowUnauthenticated }}
        - name: HOLDFAST_HTTP_ALLOW_UNAUTHENTICATED
          value: "true"
        {{- end }}
        {{- if .Values.http.tls.existingSecret }}
        - name: HOLDFAST_HTTP_TLS_CERTIFICATE
          value: /etc/holdfast/tls/tls.crt
        - name: HOLDFAST_HTTP_TLS_KEY
          value: /etc/holdfast/tls/tls.key
        {{- if .Values.http.tls.clientCA }}
        - name: HOLDFAST_HTTP_TLS_CLIENT_CA
          value: /etc/holdfast/tls/ca.crt
        {{- end }}
        {{- end }}
        - name: HOLDFAST_KEYS_PROVIDER
          value: {{ .Values.keys.provider | quote }}
        {{- if .Values.keys.existingSecret }}
        - name: HOLDFAST_KEYS_PASSPHRASE_FILE
          value: /etc/holdfast/keys/{{ .Values.keys.passphraseKey }}
        {{- end }}
        - name: HOLDFAST_KEYMANAGER_ENABLED
          value: {{ .Values.keymanager.enabled | quote }}
        {{- if .Values.keymanager.existingSecret }}
        - name: HOLDFAST_KEYMANAGER_TOKEN_FILE
          value: /etc/holdfast/keymanager/{{ .Values.keymanager.tokenKey }}
        {{- end }}
        {{- if eq .Values.slashing.backend "postgres" }}
        - name: HOLDFAST_DATABASE_URL
          value: {{ .Values.database.url | quote }}
        {{- if .Values.database.existingSecret }}
        - name: HOLDFAST_DATABASE_PASSWORD_FILE
          value: /etc/holdfast/database/{{ .Values.database.passwordKey }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.secretEnv }}
      envFrom:
        {{- range . }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.http.port }}
        - name: metrics
          containerPort: {{ .Values.metrics.port }}
      # /readyz: keys are loaded and the database takes records.
      readinessProbe:
        httpGet:
          path: /readyz
          port: metrics
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: data
          mountPath: /var/lib/holdfast
        - name: config
          mountPath: /etc/holdfast/holdfast.toml
          subPath: holdfast.toml
          readOnly: true
        {{- if .Values.http.tls.existingSecret }}
        - name: tls
          mountPath: /etc/holdfast/tls
          readOnly: true
        {{- end }}
        {{- if .Values.keys.existingSecret }}
        - name: keys
          mountPath: /etc/holdfast/keys
          readOnly: true
        {{- end }}
        {{- if .Values.keymanager.existingSecret }}
        - name: keymanager
          mountPath: /etc/holdfast/keymanager
          readOnly: true
        {{- end }}
        {{- if .Values.database.existingSecret }}
        - name: database
          mountPath: /etc/holdfast/database
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ $full }}
    {{- if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim }}
    {{- else if not (include "holdfast.stateful" .) }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- $secrets := dict "tls" .Values.http.tls.existingSecret "keys" .Values.keys.existingSecret "keymanager" .Values.keymanager.existingSecret "database" .Values.database.existingSecret }}
    {{- range $name, $secret := $secrets }}
    {{- if $secret }}
    - name: {{ $name }}
      secret:
        secretName: {{ $secret }}
        # Readable by the pod's group, as the kubelet hands it over.
        defaultMode: 0440
    {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
