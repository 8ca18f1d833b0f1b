#!/usr/bin/env bash
# The baseline of `make bench`: the same cluster as site.yml makes, by the script that a good administrator would write.
#
# FROZEN. It is here to be compared with, so it changes only when what a cluster is changes (a version of a format, a
# package, a setting that the roles set too), never to move the ratio. What it is, and why:
#   - Over SSH, with the key and user that Ansible has, onto the same bare hosts; from the same repository, release
#     files and registry, in the same versions, checked against the same checksums.
#   - Fast because that is its only virtue: every host at once, one visit to a host for each stage, one apt run a host,
#     containerd's download beside apt, images pulled before they are needed, secrets chosen beforehand so that nobody
#     waits to be told them. The seed does not wait for the other hosts, a worker joins as soon as the API answers.
#     Only the joins of control planes are one at a time, because each changes the membership of etcd.
#   - It ends where site.yml ends: every control plane serves, with its static pods ready. The serving certificates of
#     the kubelets are approved, unread and once; whoever wants that checked, and for later nodes, runs the approver.
#   - What it lacks is what a playbook is for: it looks at nothing beforehand, refuses nothing, cannot be run twice,
#     cannot grow or repair a cluster, leaves no approver behind, and knows one distribution.
#
# bench/run sets: CONTROL_PLANES and WORKERS (NAME=ADDRESS ...), CLUSTER, ENDPOINT, PORT, PODS (the range of pods),
# VERSION, PAUSE, CONTAINERD, RUNC, PACKAGES, RELEASES, MIRRORS (REGISTRY=URL ...), FLANNEL (the manifest that the role kube_network applies),
# IGNORE (preflight errors), KUBELET and PROXY (their configurations as JSON), SSH_USER, SSH_KEY, KNOWN_HOSTS.
set -euo pipefail

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
patience=600

read -ra control_planes <<<"$CONTROL_PLANES"
read -ra workers <<<"$WORKERS"
seed=${control_planes[0]}
token=$(openssl rand -hex 3).$(openssl rand -hex 8)
certificate_key=$(openssl rand -hex 32)

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

# Runs what comes in as root on a host. A function is read whole before it starts, so nothing in it can eat the rest;
# and what comes in over standard input, unlike arguments, is not in the list of processes.
on() {
    { echo 'main() {'; cat; echo '}; main </dev/null'; } |
        ssh -i "$SSH_KEY" -o UserKnownHostsFile="$KNOWN_HOSTS" -o StrictHostKeyChecking=yes -o ConnectTimeout=5 \
            -o BatchMode=yes "$SSH_USER@${1#*=}" 'sudo bash -euo pipefail -s'
}

await() {
    until [ -e "$scratch/$1" ]; do
        [ "$SECONDS" -lt "$patience" ] || { echo "gave up waiting for: $1" >&2; return 1; }
        sleep 0.1
    done
}

haproxy_configuration() {
    cat <<TEXT
global
    log /dev/log local0
    user haproxy
    group haproxy
    stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners
    hard-stop-after 30s
defaults
    mode tcp
    log global
    option dontlognull
    timeout connect 1s
    option redispatch 1
    retries 3
    timeout check 3s
    timeout client 1h
    timeout server 1h
    option clitcpka
    option srvtcpka
frontend kubernetes_api
    bind :$PORT
    option tcplog
    default_backend kubernetes_api
backend kubernetes_api
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes
    http-check expect status 200
    default-server check check-ssl verify none inter 1s fastinter 500ms fall 2 rise 2 on-marked-down shutdown-sessions
$(for host in "${control_planes[@]}"; do echo "    server ${host%=*} ${host#*=}:6443"; done)
frontend alive
    mode http
    no log
    bind 127.0.0.1:8404
    timeout client 5s
    monitor-uri /alive
TEXT
}

# INTERFACE is filled in on the host.
keepalived_configuration() {
    local address=${1#*=}
    cat <<TEXT
global_defs {
    router_id ${1%=*}
    vrrp_version 3
    script_user root
    enable_script_security
    vrrp_garp_master_refresh 5
}
vrrp_script haproxy {
    script "/usr/local/lib/plain/haproxy-alive"
    interval 1
    timeout 2
    fall 2
    rise 2
}
vrrp_instance kubernetes_api {
    state BACKUP
    nopreempt
    interface INTERFACE
    virtual_router_id 51
    priority $((1 + ${address##*.} * 97 % 254))
    advert_int 0.5
    unicast_src_ip $address
    unicast_peer {
$(for host in "${control_planes[@]}"; do [ "$host" = "$1" ] || echo "        ${host#*=}"; done)
    }
    virtual_ipaddress {
        $ENDPOINT dev INTERFACE
    }
    track_script {
        haproxy
    }
}
TEXT
}

# One visit: packages, containerd, kernel settings; on a control plane the load balancer, images and etcd's tools too.
prepare() {
    local host=$1 role=$2 name
    {
        for name in VERSION PAUSE PACKAGES RELEASES MIRRORS CONTAINERD RUNC; do printf '%s=%q\n' "$name" "${!name}"; done
        printf 'role=%q address=%q\n' "$role" "${host#*=}"
        if [ "$role" != worker ]; then
            printf 'haproxy=%q\nkeepalived=%q\n' "$(haproxy_configuration)" "$(keepalived_configuration "$host")"
        fi
        cat <<'HOST'
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
fetch() { python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' "$1" "$2"; }

runtime() {
    local work archive
    work=$(mktemp -d)
    cd "$work"
    archive=containerd-$CONTAINERD-linux-amd64.tar.gz
    fetch "$RELEASES/containerd/containerd/releases/download/v$CONTAINERD/$archive" "$archive"
    fetch "$RELEASES/containerd/containerd/releases/download/v$CONTAINERD/$archive.sha256sum" sums
    fetch "$RELEASES/opencontainers/runc/releases/download/v$RUNC/runc.amd64" runc.amd64
    fetch "$RELEASES/opencontainers/runc/releases/download/v$RUNC/runc.sha256sum" runc.sums
    sha256sum --quiet --ignore-missing --check sums runc.sums
    tar -xzf "$archive" -C /usr/local
    install -m 0755 runc.amd64 /usr/local/sbin/runc
    rm -rf "$work"
    mkdir -p /etc/containerd/certs.d
    cat >/etc/containerd/config.toml <<TOML
version = 3

[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "registry.k8s.io/pause:$PAUSE"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
TOML
    for mirror in $MIRRORS; do
        mkdir -p "/etc/containerd/certs.d/${mirror%%=*}"
        printf 'server = "%s"\n\n[host."%s"]\n  capabilities = ["pull", "resolve"]\n  override_path = true\n' \
            "${mirror#*=}" "${mirror#*=}" >"/etc/containerd/certs.d/${mirror%%=*}/hosts.toml"
    done
    cat >/etc/systemd/system/containerd.service <<'UNIT'
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=0

[Install]
WantedBy=multi-user.target
UNIT
    printf '%s-endpoint: unix:///run/containerd/containerd.sock\n' runtime image >/etc/crictl.yaml
    systemctl daemon-reload
    systemctl enable --quiet --now containerd
}

printf '%s\n' 'net.ipv4.ip_forward = 1' 'fs.inotify.max_user_instances = 8192' \
    'fs.inotify.max_user_watches = 524288' >/etc/sysctl.d/90-kubernetes.conf
systemctl restart systemd-sysctl
runtime &
runtime=$!

fetch "$PACKAGES/deb/Release.key" /etc/apt/keyrings/kubernetes.asc
printf 'Types: deb\nURIs: %s/deb/\nSuites: /\nSigned-By: /etc/apt/keyrings/kubernetes.asc\n' "$PACKAGES" \
    >/etc/apt/sources.list.d/kubernetes.sources
packages=("kubeadm=$VERSION-*" "kubelet=$VERSION-*" "kubectl=$VERSION-*" conntrack cri-tools ethtool socat)
[ "$role" = worker ] || packages+=(haproxy keepalived)
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
apt-mark hold kubeadm kubelet kubectl >/dev/null
systemctl enable --quiet kubelet

if [ "$role" != worker ]; then
    printf '%s\n' "$haproxy" >/etc/haproxy/haproxy.cfg
    mkdir -p /usr/local/lib/plain
    cat >/usr/local/lib/plain/haproxy-alive <<'SCRIPT'
#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/8404 || exit 1
printf 'GET /alive HTTP/1.0\r\n\r\n' >&3
read -r -t 1 _ status _ <&3
[ "$status" = 200 ]
SCRIPT
    chmod 0755 /usr/local/lib/plain/haproxy-alive
    interface=$(ip -oneline address show to "$address" | awk '{print $2; exit}')
    (umask 077 && printf '%s\n' "${keepalived//INTERFACE/$interface}" >/etc/keepalived/keepalived.conf)
    systemctl restart haproxy keepalived
    systemctl enable --quiet haproxy keepalived
fi
wait "$runtime"

# `kubeadm init` and `join` would pull them too, but one control plane after the other.
if [ "$role" != worker ]; then
    images=$(kubeadm config images list --kubernetes-version="v$VERSION")
    xargs -P 8 -n 1 crictl pull <<<"$images" >/dev/null
    # The tools of the etcd that runs, out of its own image.
    etcd=$(grep /etcd: <<<"$images")
    tools=$(mktemp -d)
    ctr --namespace k8s.io images mount "$etcd" "$tools" >/dev/null
    install -m 0755 "$tools/usr/local/bin/etcdctl" "$tools/usr/local/bin/etcdutl" /usr/local/bin
    ctr --namespace k8s.io images unmount --rm "$tools" >/dev/null
    rmdir "$tools"
fi
HOST
    } | on "$host"
}

registration() {
    cat <<TEXT
nodeRegistration:
  name: ${1%=*}
  criSocket: unix:///run/containerd/containerd.sock
  imagePullSerial: false
  kubeletExtraArgs: [{name: node-ip, value: ${1#*=}}]
TEXT
}

# Secrets reach kubeadm through its standard input, not through a file or the list of processes.
kubeadm() {
    local host=$1 command=$2
    { printf 'kubeadm %s --config=/dev/stdin --ignore-preflight-errors=%s >/dev/null <<"CONFIG"\n' "$command" "$IGNORE"
      cat
      echo CONFIG; } | on "$host"
}

start() {
    kubeadm "$seed" "init --upload-certs --skip-token-print --skip-certificate-key-print" <<TEXT
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
  - {token: $token, ttl: 1h0m0s, usages: [signing, authentication], groups: ["system:bootstrappers:kubeadm:default-node-token"]}
certificateKey: $certificate_key
localAPIEndpoint: {advertiseAddress: ${seed#*=}, bindPort: 6443}
$(registration "$seed")
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: $CLUSTER
kubernetesVersion: v$VERSION
controlPlaneEndpoint: $ENDPOINT:$PORT
networking: {podSubnet: $PODS, serviceSubnet: 10.96.0.0/12, dnsDomain: cluster.local}
apiServer:
  extraArgs: [{name: shutdown-delay-duration, value: 5s}]
---
$KUBELET
---
$PROXY
TEXT
    # What joining hosts check the API server against.
    on "$seed" >"$scratch/ca_hash" <<'HOST'
openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1
HOST
}

join() {
    local host=$1 role=$2
    kubeadm "$host" join <<TEXT
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: {apiServerEndpoint: "$ENDPOINT:$PORT", token: $token, caCertHashes: ["sha256:$(cat "$scratch/ca_hash")"]}
$(registration "$host")
$([ "$role" = worker ] || cat <<CONTROL
controlPlane:
  certificateKey: $certificate_key
  localAPIEndpoint: {advertiseAddress: ${host#*=}, bindPort: 6443}
CONTROL
)
TEXT
}

jobs=()
for host in "${control_planes[@]}"; do
    { prepare "$host" control_plane && say "prepared: ${host%=*}"; } &
    jobs+=($!)
done
for host in "${workers[@]}"; do
    { prepare "$host" worker && say "prepared: ${host%=*}" && await started &&
        join "$host" worker && say "joined: ${host%=*}"; } &
    jobs+=($!)
done

# The seed waits for itself only, and stops at once when its own preparation fails.
wait "${jobs[0]}"
start
touch "$scratch/started"
say "started the cluster on ${seed%=*}"
{ echo "kubectl --kubeconfig /etc/kubernetes/admin.conf apply --filename - >/dev/null <<'MANIFEST'"
  cat "$FLANNEL"
  echo MANIFEST; } | on "$seed"

position=0
for host in "${control_planes[@]:1}"; do
    position=$((position + 1))
    wait "${jobs[$position]}"
    join "$host" control_plane
    say "joined: ${host%=*}"
done
for job in "${jobs[@]:${#control_planes[@]}}"; do wait "$job"; done

{ printf 'nodes=%d pods=%d patience=%d\n' $((${#control_planes[@]} + ${#workers[@]})) $((4 * ${#control_planes[@]})) 180
  cat <<'HOST'; } | on "$seed"
export KUBECONFIG=/etc/kubernetes/admin.conf
field='{range .items[*]}{.metadata.name} {.spec.signerName} {.spec.username} {.status.conditions[*].type}{"\n"}{end}'
ready='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
while [ "$SECONDS" -lt "$patience" ]; do
    requests=$(kubectl get csr -o jsonpath="$field" | awk '$2 == "kubernetes.io/kubelet-serving"') || { sleep 0.5; continue; }
    pending=$(awk 'NF == 3 {print $1}' <<<"$requests")
    [ -z "$pending" ] || kubectl certificate approve $pending >/dev/null
    approved=$(awk '/Approved/ {print $3}' <<<"$requests" | sort -u | wc -l)
    serving=$(kubectl get pods -n kube-system -l tier=control-plane -o jsonpath="$ready" | grep -c True || true)
    if [ "$approved" -ge "$nodes" ] && [ "$serving" -ge "$pods" ]; then exit 0; fi
    sleep 0.5
done
echo "after $patience s: $approved of $nodes nodes have a serving certificate, $serving of $pods static pods are ready" >&2
exit 1
HOST
say "every control plane serves"
