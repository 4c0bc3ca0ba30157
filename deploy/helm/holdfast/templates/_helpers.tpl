{{/* Names, labels, and everything that must not be installed. */}}
{{- define "holdfast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "holdfast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "holdfast.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ include "holdfast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "holdfast.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "holdfast.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "holdfast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Whether each signer keeps a volume. */}}
{{- define "holdfast.stateful" -}}
{{- if or (eq .Values.slashing.backend "sqlite") (eq .Values.slashing.instances "kept") -}}true{{- end -}}
{{- end -}}

{{/* Who answers DNS. */}}
{{- define "holdfast.dns" -}}
{{- if .Values.networkPolicy.dns -}}
- to:
    {{- toYaml .Values.networkPolicy.dnsPeers | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end -}}
{{- end -}}

{{/* Who may read metrics: those who are named, and `helm test`. */}}
{{- define "holdfast.readers" -}}
- from:
    - podSelector:
        matchLabels:
          {{- include "holdfast.selector" . | nindent 10 }}
          app.kubernetes.io/component: test
    {{- with .Values.networkPolicy.monitoring }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - port: metrics
{{- end -}}

{{/* Configurations that would sign unprotected, or not at all. */}}
{{- define "holdfast.check" -}}
{{- if not (has .Values.slashing.backend (list "sqlite" "postgres")) -}}
{{- fail (printf "slashing.backend is %q: choose sqlite or postgres" .Values.slashing.backend) -}}
{{- end -}}
{{- if not (has .Values.slashing.instances (list "kept" "ephemeral")) -}}
{{- fail (printf "slashing.instances is %q: choose kept or ephemeral" .Values.slashing.instances) -}}
{{- end -}}
{{- if and (eq .Values.slashing.backend "sqlite") (gt (int .Values.replicas) 1) -}}
{{- fail "replicas > 1 needs slashing.backend: postgres: several signers with an SQLite database each can sign slashable messages" -}}
{{- end -}}
{{- if eq .Values.slashing.backend "postgres" -}}
{{- if not .Values.database.url -}}
{{- fail "slashing.backend: postgres needs database.url" -}}
{{- end -}}
{{- if regexMatch "^[a-z]+://[^/@]*:[^/@]*@" .Values.database.url -}}
{{- fail "database.url holds a password, which everybody who may read the chart's values sees: put it into database.existingSecret" -}}
{{- end -}}
{{- if eq .Values.keys.provider "file" -}}
{{- fail "slashing.backend: postgres needs a keys.provider that every signer can open (passphrase, aws-kms, …): file is a key in one signer's own directory" -}}
{{- end -}}
{{- if .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim is for slashing.backend: sqlite; with postgres each signer needs a directory of its own" -}}
{{- end -}}
{{- end -}}
{{- if and (has "passphrase" (splitList "," (nospace .Values.keys.provider))) (not .Values.keys.existingSecret) -}}
{{- fail "keys.provider: passphrase needs keys.existingSecret" -}}
{{- end -}}
{{- $proof := or (and .Values.http.tls.existingSecret .Values.http.tls.clientCA) .Values.http.allowUnauthenticated (regexMatch "(?m)^\\s*\\[\\[callers\\]\\]" .Values.config) -}}
{{- if not $proof -}}
{{- fail "nobody would have to prove who asks for signatures: set http.tls.existingSecret with clientCA, or [[callers]] in config, or http.allowUnauthenticated: true behind a NetworkPolicy" -}}
{{- end -}}
{{- if and .Values.http.allowUnauthenticated (not .Values.networkPolicy.enabled) -}}
{{- fail "http.allowUnauthenticated needs networkPolicy.enabled: otherwise every pod of the cluster may have messages signed" -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.networkPolicy.monitoring) -}}
{{- fail "serviceMonitor.enabled, but the NetworkPolicy lets nobody read metrics: name your Prometheus in networkPolicy.monitoring, such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" -}}
{{- end -}}
{{- if and .Values.networkPolicy.dns (not (and .Values.networkPolicy.dnsPeers .Values.networkPolicy.dnsPorts)) -}}
{{- fail "networkPolicy.dns needs networkPolicy.dnsPeers and dnsPorts: who answers, and where; without DNS set it to false" -}}
{{- end -}}
{{- end -}}
{{- if .Values.switcher.enabled -}}
{{- $listed := regexMatch "(?m)^\\s*\\[\\[switcher\\.upstream\\]\\]" .Values.switcher.config -}}
{{- if not (or $listed .Values.switcher.beacons) -}}
{{- fail "switcher.enabled needs consensus clients: switcher.beacons, or [[switcher.upstream]] in switcher.config" -}}
{{- end -}}
{{- if and $listed .Values.switcher.beacons -}}
{{- fail "switcher.beacons would replace the [[switcher.upstream]] of switcher.config: name all consensus clients in one of them" -}}
{{- end -}}
{{- range .Values.switcher.beacons -}}
{{- if regexMatch "^[a-z]+://[^/]*@" . -}}
{{- fail "switcher.beacons holds a password, which everybody who may read the chart's values sees: use [[switcher.upstream]] with token_file or password_file in switcher.config, and switcher.extraVolumes" -}}
{{- end -}}
{{- end -}}
{{- if not (or (and .Values.switcher.tls.existingSecret .Values.switcher.tls.clientCA) .Values.switcher.allowUnauthenticated (regexMatch "(?m)^\\s*known_clients\\b" .Values.switcher.config)) -}}
{{- fail "nobody would have to prove who uses the switcher: set switcher.tls.existingSecret with clientCA, or switcher.allowUnauthenticated: true behind a NetworkPolicy" -}}
{{- end -}}
{{- if and .Values.switcher.allowUnauthenticated (not .Values.networkPolicy.enabled) -}}
{{- fail "switcher.allowUnauthenticated needs networkPolicy.enabled: otherwise every pod of the cluster may use your consensus clients" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.switcherEgress) -}}
{{- fail "switcher.enabled, but the NetworkPolicy lets it reach no consensus client: name them in networkPolicy.switcherEgress, such as [{ports: [{port: 5052}]}]" -}}
{{- end -}}
{{- end -}}
{{- end -}}
