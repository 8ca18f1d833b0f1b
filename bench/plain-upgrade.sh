#!/usr/bin/env bash
# The baseline of `make bench BENCH=upgrade`: a cluster of plain.sh to the next minor, by the script that a good
# administrator would write.
#
# FROZEN, as plain.sh is: it changes only when what an upgrade is changes, never to move the ratio. What it is, and why:
#   - The steps of upgrade.yml, in its order: packages and images on all hosts before the first one changes, a snapshot
#     that is read again, etcd's patch step, the static pods of one control plane after the other, and only then kubelets,
#     because none may be newer than an API server that it meets. Each kubelet is replaced on a node without pods.
#   - It waits for no more than is safe: after a restart until this host's API server is ready, all members of etcd are
#     healthy, and all control planes are Ready, without which kubeadm refuses the next one (a kubelet whose API server has
#     no etcd for a while is not); for the node in its new version; for pods that are evicted; for add-ons once, in the end.
#   - What upgrade.yml does beside that, it leaves out: it takes no API server out of the load balancers, whose checks
#     find out by themselves; moves no leadership; lends no etcd; does not look before or after; uses nothing.
#   - It refuses nothing, cannot be run twice, and knows one distribution.
#
# bench/run sets what plain.sh gets, with the new VERSION and its PACKAGES, and ETCD_STEP: the tag that members of etcd go
# to before the next minor, empty where kubeadm's own is the same minor.
set -euo pipefail

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

read -ra control_planes <<<"$CONTROL_PLANES"
read -ra workers <<<"$WORKERS"
seed=${control_planes[0]}

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

# Runs what comes in as root on a host; see plain.sh.
on() {
    { echo 'main() {'; cat; echo '}; main </dev/null'; } |
        ssh -i "$SSH_KEY" -o UserKnownHostsFile="$KNOWN_HOSTS" -o StrictHostKeyChecking=yes -o ConnectTimeout=5 \
            -o BatchMode=yes "$SSH_USER@${1#*=}" 'sudo bash -euo pipefail -s'
}

# What each visit begins with.
settings() {
    printf 'VERSION=%q PACKAGES=%q IGNORE=%q STEP=%q\n' "$VERSION" "$PACKAGES" "$IGNORE" "$ETCD_STEP"
    printf 'name=%q address=%q role=%q\n' "${1%=*}" "${1#*=}" "$2"
    cat <<'HOST'
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
export ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt
export ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key
kubectl() { command kubectl --kubeconfig=/etc/kubernetes/admin.conf "$@"; }
await() {
    local end=$((SECONDS + 300))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "$name: gave up waiting: $*" >&2; exit 1; }
        sleep 0.5
    done
}
ready() {
    local field='{.items[*].status.conditions[?(@.type=="Ready")].status}' seen
    seen=$(kubectl get nodes --selector=node-role.kubernetes.io/control-plane -o jsonpath="$field") &&
        [[ " $seen" != *" "[!T]* ]]
}
serves() { kubectl --server="https://$address:6443" get --raw /readyz && etcdctl endpoint health --cluster && ready; }
is_new() {
    local fields='{.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}'
    [ "$(kubectl get node "$name" -o jsonpath="$fields")" = "v$VERSION True" ]
}
HOST
}

# The repository of the new minor, packages, images, kubeadm.
prepare() {
    { settings "$@"; cat <<'HOST'; } | on "$1"
fetch() { python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' "$1" "$2"; }
fetch "$PACKAGES/deb/Release.key" /etc/apt/keyrings/kubernetes.asc
printf 'Types: deb\nURIs: %s/deb/\nSuites: /\nSigned-By: /etc/apt/keyrings/kubernetes.asc\n' "$PACKAGES" \
    >/etc/apt/sources.list.d/kubernetes.sources
apt-get update -qq
install() { apt-get install -y -qq --no-install-recommends --allow-change-held-packages "$@" >/dev/null; }
install "kubeadm=$VERSION-*"
install --download-only "kubelet=$VERSION-*" "kubectl=$VERSION-*" &
packages=$!
images=$(kubeadm config images list --kubernetes-version="v$VERSION")
if [ "$role" = worker ]; then
    images=$(grep -Ev '/(etcd|kube-apiserver|kube-controller-manager|kube-scheduler):' <<<"$images")
elif [ -n "$STEP" ]; then
    images+=$'\n'$(sed -n 's|/etcd:.*|/etcd:|p' <<<"$images")$STEP
fi
xargs -P 8 -n 1 crictl pull <<<"$images" >/dev/null
wait "$packages"
HOST
}

# There is no way back without it once etcd has its new minor.
snapshot() {
    { settings "$seed" control_plane; cat <<'HOST'; } | on "$seed"
mkdir -p -m 0700 /var/backups/plain
etcdctl snapshot save "/var/backups/plain/before-$VERSION.db" >/dev/null
etcdutl snapshot status "/var/backups/plain/before-$VERSION.db" >/dev/null
HOST
}

# The manifest is written elsewhere first: the kubelet reads whatever is in its folder.
step() {
    { settings "$1" control_plane; cat <<'HOST'; } | on "$1"
manifest=/etc/kubernetes/manifests/etcd.yaml
sed "s|\(image: .*/etcd:\).*|\1$STEP|" "$manifest" >/etc/kubernetes/etcd.yaml
chmod 0600 /etc/kubernetes/etcd.yaml
mv /etc/kubernetes/etcd.yaml "$manifest"
stepped() { [[ $(etcdctl endpoint status -w fields) == *"\"Version\" : \"${STEP%-*}\""* ]]; }
await stepped
await serves
HOST
}

# Static pods, certificates and the kubelet's configuration; then the tools of the etcd that runs.
control_plane() {
    { settings "$1" control_plane; printf 'command=%q\n' "$2"; cat <<'HOST'; } | on "$1"
kubeadm upgrade $command --ignore-preflight-errors="$IGNORE" >/dev/null
await serves
etcd=$(kubeadm config images list --kubernetes-version="v$VERSION" | grep /etcd:)
tools=$(mktemp -d)
ctr --namespace k8s.io images mount "$etcd" "$tools" >/dev/null
install -m 0755 "$tools/usr/local/bin/etcdctl" "$tools/usr/local/bin/etcdutl" /usr/local/bin
ctr --namespace k8s.io images unmount --rm "$tools" >/dev/null
rmdir "$tools"
HOST
}

# The pods leave, the kubelet is replaced, the node comes back. A worker gets its configuration only now.
kubelet() {
    { settings "$@"; cat <<'HOST'; } | on "$seed"
kubectl drain "$name" --ignore-daemonsets --delete-emptydir-data --timeout=300s >/dev/null
HOST
    { settings "$@"; cat <<'HOST'; } | on "$1"
[ "$role" != worker ] || kubeadm upgrade node --ignore-preflight-errors="$IGNORE" >/dev/null
apt-get install -y -qq --no-install-recommends --allow-change-held-packages "kubelet=$VERSION-*" "kubectl=$VERSION-*" >/dev/null
apt-mark hold kubeadm kubelet kubectl >/dev/null
systemctl daemon-reload
systemctl restart kubelet
[ "$role" = worker ] || await serves
HOST
    { settings "$@"; cat <<'HOST'; } | on "$seed"
await is_new
kubectl uncordon "$name" >/dev/null
HOST
}

jobs=()
for host in "${control_planes[@]}"; do prepare "$host" control_plane & jobs+=($!); done
for host in "${workers[@]}"; do prepare "$host" worker & jobs+=($!); done
snapshot & jobs+=($!)
for job in "${jobs[@]}"; do wait "$job"; done
say "prepared, and saved a snapshot"

if [ -n "$ETCD_STEP" ]; then
    for host in "${control_planes[@]}"; do
        step "$host"
        say "etcd $ETCD_STEP: ${host%=*}"
    done
fi

command="apply v$VERSION --yes"
for host in "${control_planes[@]}"; do
    control_plane "$host" "$command"
    say "upgraded: ${host%=*}"
    command=node
done

for host in "${control_planes[@]}"; do
    kubelet "$host" control_plane
    say "kubelet: ${host%=*}"
done
for host in "${workers[@]}"; do
    kubelet "$host" worker
    say "kubelet: ${host%=*}"
done

{ settings "$seed" control_plane; cat <<'HOST'; } | on "$seed"
for workload in daemonset/kube-proxy deployment/coredns; do
    kubectl --namespace kube-system rollout status "$workload" --timeout=180s >/dev/null
done
HOST
say "every node is upgraded"
