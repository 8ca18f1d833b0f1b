"""drain_node on a real API server: the same decisions as `kubectl drain`, and the drains themselves.

Needs a whole cluster of the lab with two workers, and leaves it as it was. `make soak` (KUBEWRIGHT_ALL_FAULTS) asks
with every combination of flags, other runs with a third of them.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import Rules
from ansible_collections.kubewright.cluster.plugins.module_utils._drain_node import Drainer, Wanted
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from hardlab import INVENTORY, addresses, control_planes, group, kubectl, shell
from labtools import Notes, run, wait_until

from lab import nodes

ALL = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
NAMESPACE = "kubewright-drain"
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
FLAGS = ("force", "ignore_daemonsets", "delete_emptydir_data")
RULES = (*FLAGS, "skip_wait_for_delete")
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"


def pod_spec(args: list[str], *, empty_dir: bool = False, grace: int = 0, **more: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": IMAGE, "args": args}
    spec: dict[str, Any] = {
        "containers": [container],
        "terminationGracePeriodSeconds": grace,
        "nodeSelector": {"kubernetes.io/hostname": worker()},
        **more,
    }
    if empty_dir:
        container["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
        spec["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    return spec


def worker() -> str:
    """Return the worker that is drained."""
    return group("workers")[0]


def pod(case: str, args: list[str] | None = None, **more: Any) -> dict[str, Any]:
    about = {"name": case, "labels": {"case": case}, **more.pop("about", {})}
    spec = pod_spec(args or ["pause"], **more)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


def controller(kind: str, case: str, replicas: int = 1, **more: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"case": case}}, "spec": pod_spec(["pause"], **more)}
    spec: dict[str, Any] = {"selector": {"matchLabels": {"case": case}}, "template": template}
    if kind != "DaemonSet":
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = case
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        spec = {"template": template}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": case}, "spec": spec}


def budget(name: str, case: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"case": case}}, **spec},
    }


def owned(case: str, controller: bool) -> dict[str, Any]:
    """A pod that a ConfigMap owns, as its controller or not."""
    uid = kubectl("-n", NAMESPACE, "get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": uid.strip(),
        "controller": controller,
    }
    return pod(case, about={"ownerReferences": [owner]})


def objects() -> list[dict[str, Any]]:
    """Every kind of pod that a filter knows, each with a label of its own."""
    never = {"restartPolicy": "Never"}
    return [
        pod("bare"),
        pod("bare-empty", empty_dir=True),
        pod("succeeded", ["help"], **never),
        pod("succeeded-empty", ["help"], empty_dir=True, **never),
        pod("failed", ["no-such-command"], **never),
        pod("ends-never", about={"finalizers": ["kubewright.test/keep"]}),
        owned("owned", controller=False),
        owned("owned-controller", controller=True),
        controller("Deployment", "deployment"),
        controller("Deployment", "deployment-empty", empty_dir=True),
        controller("StatefulSet", "statefulset"),
        controller("Job", "job"),
        controller("DaemonSet", "daemonset"),
        controller("DaemonSet", "daemonset-empty", empty_dir=True),
        controller("Deployment", "guarded", 2),
        budget("guarded", "guarded", maxUnavailable=0),
        controller("Deployment", "twice", 1),
        budget("twice-1", "twice", minAvailable=0),
        budget("twice-2", "twice", minAvailable=0),
        controller("Deployment", "spare", 2),
        budget("spare", "spare", maxUnavailable=2),
    ]


def ends(name: str) -> str:
    words = ("get", "pod", name, "-o", "jsonpath={.status.phase} {.metadata.deletionTimestamp}")
    return kubectl("-n", NAMESPACE, *words)


def apply(*documents: dict[str, Any]) -> None:
    """Apply objects in the namespace of this test."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
    shell(control_planes()[0], f"echo {shlex.quote(text)} | {KUBECTL} -n {NAMESPACE} apply -f -")


@pytest.fixture(scope="module")
def pods() -> Iterator[None]:
    """The pods, of which some run, some have ended and one will not go."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl("-n", NAMESPACE, "create", "configmap", "owner")
        apply(*objects())

        def settled() -> bool:
            items = json.loads(kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
            phases = {one["metadata"]["name"]: one["status"]["phase"] for one in items}
            running = [name for name, phase in phases.items() if phase == "Running"]
            done = phases.get("succeeded") == phases.get("succeeded-empty") == "Succeeded"
            return done and phases.get("failed") == "Failed" and len(running) == 16 and len(phases) == 19

        wait_until(settled, 120, "the pods are as the test needs them")
        kubectl("-n", NAMESPACE, "delete", "pod", "ends-never", "--wait=false")
        # Its container ends at once, and what has ended is judged otherwise: both tools are to see the same.
        wait_until(lambda: ends("ends-never").startswith(("Succeeded", "Failed")), 60, "the pod has ended")
        yield
    finally:
        patch = '{"metadata":{"finalizers":null}}'
        kubectl("-n", NAMESPACE, "patch", "pod", "ends-never", "--type=merge", "-p", patch, check=False)
        kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", check=False)
        kubectl("uncordon", worker(), check=False)


def combinations() -> list[dict[str, Any]]:
    """Each kind of pod with the flags that can matter to it."""
    kinds = ["bare", "bare-empty", "succeeded-empty", "deployment-empty", "daemonset-empty", "ends-never"]
    found = [
        {"case": case, **dict(zip(FLAGS, values, strict=True))}
        for case in kinds
        for values in itertools.product((False, True), repeat=3)
    ][:: 1 if ALL else 3]
    for case in ("succeeded", "failed", "owned", "owned-controller", "deployment", "statefulset", "job"):
        found += [{"case": case, "force": False}, {"case": case, "force": True}]
    for value in (False, True):
        found.append({"case": "daemonset", "ignore_daemonsets": value})
        found.append({"case": "daemonset", "ignore_daemonsets": value, "force": True})
        found += [{"case": case, "disable_eviction": value} for case in ("guarded", "twice", "spare", "bare")]
    found += [{"case": "ends-never", "force": True, "skip_wait_for_delete": value} for value in (0, 1)]
    found += [{"case": "nobody"}]
    return [{**dict.fromkeys(FLAGS, False), **one} for one in found]


def ask_kubectl(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask kubectl, eight at a time."""
    lines = []
    for number, one in enumerate(cases):
        words = [f"--pod-selector=case={one['case']}", "--timeout=2s"]
        if one.get("skip_wait_for_delete"):
            words.append(f"--skip-wait-for-delete-timeout={one['skip_wait_for_delete']}")
        for flag in (*FLAGS, "disable_eviction"):
            words.append(f"--{flag.replace('_', '-')}={'true' if one.get(flag) else 'false'}")
        if one.get("disable_eviction"):
            words.append("-v=6")
        drain = f"{KUBECTL} drain {worker()} --dry-run=server {' '.join(words)}"
        lines.append(f"timeout 20 {drain} >/tmp/drain-{number} 2>&1")
    script = "\n".join(lines)
    shell(
        control_planes()[0],
        f"rm -f /tmp/drain-*; printf %s {shlex.quote(script)} | xargs -d '\\n' -P 8 -I@ sh -c @; true",
    )
    answers = []
    read = f"for n in $(seq 0 {len(cases) - 1}); do cat /tmp/drain-$n; printf '\\0'; done"
    for said in shell(control_planes()[0], read).split("\0")[: len(cases)]:
        # Without evictions kubectl names no pod: its requests do. Up to 1.36 its dry run then waits for pods that
        # nobody deletes (kubernetes 137543).
        leave = re.findall(rf"^evicting pod {NAMESPACE}/(\S+)", said, re.M)
        leave += re.findall(r'DELETE"? (?:url=")?https://[^\s"]*/pods/([^\s"?]+)', said)
        refused, held = "cannot delete" in said, "error when evicting" in said
        answers.append({"refused": refused, "leave": sorted(set(leave)), "blocked": held, "said": said})
    shell(control_planes()[0], "rm -f /tmp/drain-*")
    return answers


def ask_module(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask what the module runs in check mode, from here: ninety runs of Ansible would take minutes."""
    host = control_planes()[0]
    config = json.loads(kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
    api = KubeApi.from_config(config, "admin.conf", server=f"https://{addresses()[host]}:6443")

    def ask(case: dict[str, Any]) -> dict[str, Any]:
        rules = Rules(**{key: case[key] for key in RULES if key in case})
        selector = f"case={case['case']}"
        skip = case.get("disable_eviction", False)
        wanted = Wanted(worker(), rules=rules, pod_selector=selector, disable_eviction=skip)
        drainer, said = Drainer(api, wanted, Deadline(30), check_mode=True), ""
        try:
            drainer.run()
        except KubewrightError as error:
            said = str(error)
        found = drainer.outcome.returned()
        leave = [one["pod"] for key in ("evicted", "deleted", "blocked") for one in found[key]]
        return {
            "refused": bool(found["refused_pods"]),
            "leave": sorted({one.partition("/")[2] for one in leave + found["pending"]}),
            "blocked": bool(found["blocked"]),
            "said": said,
        }

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, cases))


def test_the_decision_is_that_of_kubectl(pods: None, notes: Notes) -> None:
    """Every kind of pod with every flag that matters: the same pods leave, are refused, or are held by a budget."""
    cases = combinations()
    before = kubectl("get", "node", worker(), "-o", "jsonpath={.spec}{.metadata.annotations}")
    begun = time.monotonic()
    theirs, ours = ask_kubectl(cases), ask_module(cases)
    different = [
        (case, mine, other)
        for case, mine, other in zip(cases, ours, theirs, strict=True)
        if any(mine[key] != other[key] for key in ("refused", "leave", "blocked"))
    ]
    assert not different, json.dumps(different, indent=1)
    kinds = {"refused": 0, "blocked": 0, "leave": 0}
    for one in ours:
        for key in kinds:
            kinds[key] += bool(one[key])
    # All kinds of answers are among them, or the comparison would prove little. Two budgets hold a pod.
    assert len(cases) >= (60 if ALL else 40) and min(kinds.values()) >= 2, kinds
    assert kubectl("get", "node", worker(), "-o", "jsonpath={.spec}{.metadata.annotations}") == before
    notes.add(
        f"drain: {len(cases)} combinations decided as kubectl does ({kinds}) in {time.monotonic() - begun:.0f} s"
    )


def module(check: bool = False, **options: Any) -> dict[str, Any]:
    """Run the module once on a control plane; ``said`` is all that was printed, warnings included, in one line.

    Whether it failed stands before the result, not in it.
    """
    words = [nodes.ansible_tool("ansible"), "-i", INVENTORY, control_planes()[0], "-b"]
    words += ["-m", "kubewright.cluster.drain_node", "-a", json.dumps(options)] + (
        ["--check"] if check else []
    )
    said = run(*words, check=False, env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    head, _arrow, told = said.partition(" => ")
    assert told, said
    failed = "| FAILED!" in head
    return {**json.JSONDecoder().raw_decode(told)[0], "failed": failed, "said": " ".join(said.split())}


def test_a_budget_that_holds_is_named_and_the_next_run_goes_on(pods: None, notes: Notes) -> None:
    """kubectl 172: a drain that waits for a budget says for which. Then the budget gives way."""
    only = {"name": worker(), "pod_selector": "case in (guarded,deployment)"}
    failed = module(timeout=8, **only)
    assert failed["failed"] and failed["changed"] and failed["cordoned"]
    assert (
        "kubewright-drain/guarded allows 0 disruptions: 2 of 2 pods are healthy, 2 must be" in failed["msg"]
    )
    assert [one["pod"].startswith(f"{NAMESPACE}/deployment-") for one in failed["evicted"]] == [True]
    assert {one["pdb"] for one in failed["blocked"]} == {f"{NAMESPACE}/guarded"}
    assert len(failed["pending"]) == 2
    patch = '{"spec":{"maxUnavailable":1}}'
    kubectl("-n", NAMESPACE, "patch", "pdb", "guarded", "--type=merge", "-p", patch)
    # With the other worker as their only place the new pods are ready at once, and the second may go.
    kubectl(
        "-n",
        NAMESPACE,
        "patch",
        "deployment",
        "guarded",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/template/spec/nodeSelector"}]',
    )
    done = module(timeout=120, **only)
    assert not done["failed"], done["said"]
    assert not done["cordoned"] and done["was_unschedulable"]
    again = module(timeout=30, **only)
    assert not again["changed"] and not again["evicted"]
    given_back = module(name=worker(), state="uncordoned")
    assert given_back["uncordoned"] and not module(name=worker(), state="uncordoned")["changed"]
    notes.add(f"drain: two pods behind a budget of one left in {done['seconds']} s")


def test_only_our_own_cordon_is_taken_away(pods: None) -> None:
    """kured 314 and 791, with the API server's own record of who wrote the field."""
    assert module(name=worker(), state="cordoned")["cordoned"]
    kubectl("uncordon", worker())
    kubectl("cordon", worker())
    stays = module(name=worker(), state="uncordoned")
    assert not stays["changed"] and "somebody else cordoned it" in stays["said"]
    assert module(name=worker(), state="uncordoned", accept_foreign_cordon=True)["uncordoned"]


def test_a_pod_that_may_not_go_leaves_the_node_untouched(pods: None) -> None:
    """kubectl cordons first, and leaves the node so."""
    refused = module(name=worker(), pod_selector="case=bare")
    assert refused["failed"] and not refused["changed"] and "no controller" in refused["msg"]
    assert "unschedulable" not in kubectl("get", "node", worker(), "-o", "jsonpath={.spec}")
    assert module(name="nobody")["exists"] is False
