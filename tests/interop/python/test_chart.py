"""The Helm chart: valid to Helm and to Kubernetes, restricted, and its command lines start a broker."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import tomllib
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import charts
import world as worlds
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
CHART = REPOSITORY / "helm/leasehold"
TOOLS = Path(os.environ["LEASEHOLD_INTEROP_CHARTS"])
LEASEHOLD = os.environ["LEASEHOLD_BIN"]
# None: as it comes. The others are examples too.
VALUES = [None, *sorted(CHART.glob("ci/*-values.yaml"))]
PATIENCE_SECONDS = 30


def helm(*arguments):
    return subprocess.run([TOOLS / "helm", *arguments], capture_output=True, text=True)


def rendered(values=None, *arguments):
    chosen = [] if values is None else ["--values", values]
    run = helm("template", "test", CHART, "--namespace", "brokers", "--kube-version", "1.30", *chosen, *arguments)
    if run.returncode != 0:
        raise AssertionError(run.stderr)
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def one(documents, kind):
    [found] = [document for document in documents if document["kind"] == kind]
    return found


def configuration(documents):
    [text] = [d["data"]["leasehold.toml"] for d in documents if "leasehold.toml" in d.get("data", {})]
    return text


def pods(documents):
    return [d["spec"]["template"]["spec"] for d in documents if d["kind"] in ("Deployment", "Job")]


class Chart(unittest.TestCase):
    def refused(self, word, *arguments):
        run = helm("template", "test", CHART, "--kube-version", "1.30", *arguments)
        self.assertNotEqual(run.returncode, 0, "it was rendered")
        self.assertIn(word, run.stderr)

    def test_helm_finds_nothing_to_complain_about(self):
        for values in VALUES:
            chosen = [] if values is None else ["--values", values]
            run = helm("lint", "--strict", CHART, *chosen)
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_every_manifest_is_what_the_oldest_and_the_newest_kubernetes_take(self):
        for values in VALUES:
            manifests = "---\n".join(yaml.safe_dump(document) for document in rendered(values))
            for version in charts.KUBERNETES:
                place = TOOLS / f"v{version}" / "{{.ResourceKind}}{{.KindSuffix}}.json"
                command = [TOOLS / "kubeconform", "-strict", "-summary", "-output=json", f"-schema-location={place}"]
                run = subprocess.run(command, input=manifests, capture_output=True, text=True)
                self.assertEqual(run.returncode, 0, run.stdout)
                summary = json.loads(run.stdout)["summary"]
                self.assertGreater(summary["valid"], 4)
                self.assertEqual((summary["invalid"], summary["errors"], summary["skipped"]), (0, 0, 0))

    def test_the_configuration_is_one_that_a_broker_takes(self):
        for values in VALUES:
            text = configuration(rendered(values))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "leasehold.toml"
                file.write_text(text)
                run = subprocess.run([LEASEHOLD, "config", "check", file], capture_output=True, text=True)
                self.assertEqual(run.returncode, 0, run.stderr)

    def test_no_number_of_the_values_becomes_a_fraction(self):
        documents = rendered(None, "--set", "config.limits.connections=1000000")
        self.assertEqual(tomllib.loads(configuration(documents))["limits"], {"connections": 1_000_000})

    def test_every_pod_meets_the_restricted_security_standard(self):
        for values in VALUES:
            for pod in pods(rendered(values)):
                context = pod["securityContext"]
                self.assertTrue(context["runAsNonRoot"])
                self.assertNotEqual(context["runAsUser"], 0)
                self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertFalse(pod["automountServiceAccountToken"])
                self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & pod.keys())
                for container in pod["containers"]:
                    context = container["securityContext"]
                    self.assertFalse(context["allowPrivilegeEscalation"])
                    self.assertTrue(context["readOnlyRootFilesystem"])
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                allowed = {"configMap", "secret", "persistentVolumeClaim", "projected", "csi"}
                self.assertLessEqual({kind for volume in pod["volumes"] for kind in volume} - {"name"}, allowed)

    def test_what_the_configuration_names_is_mounted_and_what_is_mounted_is_there(self):
        for values in VALUES:
            documents = rendered(values)
            named = re.findall(r'"(?:unix://)?(/(?:etc|var|spiffe-workload-api)/[^"]+)"', configuration(documents))
            for pod in pods(documents):
                volumes = {volume["name"] for volume in pod["volumes"]}
                [container] = pod["containers"]
                mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
                self.assertEqual(set(mounts.values()), volumes)
                for file in named:
                    self.assertTrue(any(file.startswith(f"{place}/") for place in mounts), file)

    def test_only_brokers_are_behind_the_service_and_in_the_budget(self):
        documents = rendered()
        deployment, service = one(documents, "Deployment"), one(documents, "Service")
        job, budget = one(documents, "Job"), one(documents, "PodDisruptionBudget")
        selectors = [
            service["spec"]["selector"],
            deployment["spec"]["selector"]["matchLabels"],
            budget["spec"]["selector"]["matchLabels"],
        ]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels.items())
            self.assertFalse(selector.items() <= job["spec"]["template"]["metadata"]["labels"].items())

    def test_a_changed_configuration_starts_the_brokers_again(self):
        def checksum(*arguments):
            deployment = one(rendered(None, *arguments), "Deployment")
            return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

        self.assertNotEqual(checksum(), checksum("--set", "config.log.filter=warn"))

    def test_brokers_may_ask_about_tokens_only_if_they_are_to(self):
        documents = rendered(None, "--set", "tokenReview.issuer=k8s")
        binding, deployment = one(documents, "ClusterRoleBinding"), one(documents, "Deployment")
        self.assertEqual(binding["roleRef"]["name"], "system:auth-delegator")
        account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
        self.assertEqual(binding["subjects"], [{"kind": "ServiceAccount", "name": account, "namespace": "brokers"}])
        [issuer] = tomllib.loads(configuration(documents))["trust"]["oidc"]
        self.assertEqual(issuer["token_review"]["api_server"], "https://kubernetes.default.svc")
        without = rendered()
        self.assertNotIn("ClusterRoleBinding", [document["kind"] for document in without])
        self.assertNotIn("token_review", configuration(without))

    def test_an_upgrade_makes_no_store(self):
        kinds = [document["kind"] for document in rendered(None, "--is-upgrade")]
        self.assertNotIn("Job", kinds)
        self.assertIn("Job", [document["kind"] for document in rendered()])

    def test_values_that_cannot_work_are_refused(self):
        embedded = CHART / "ci/embedded-values.yaml"
        self.refused("embedded store is for one broker", "--values", embedded, "--set", "replicaCount=2")
        both = ["--set", "trustBundles.existingConfigMap=spire-bundle"]
        self.refused("not both", "--values", embedded, *both)
        self.refused("replicas", "--set", "replicas=3")
        self.refused("kind", "--set", "config.store.kind=etcd")
        self.refused("url", "--set", "config.store.url=null")
        self.refused("base_url", "--set", "config.base_url=http://leasehold.example")
        self.refused("existingSecret", "--set", "keyring.existingSecret=")
        self.refused("csiDriver", "--set", "workloadApi.certificate=true")
        self.refused("role", "--set", "config.roles[0].role=admin")
        self.refused("tokenReview.issuer", "--set", "tokenReview.issuer=k9s")
        self.refused("preset", "--set", "config.trust.oidc[0].preset=gitlab")

    def test_the_command_lines_of_the_job_and_the_deployment_start_a_broker(self):
        documents = rendered(CHART / "ci/embedded-values.yaml")
        job, deployment = one(documents, "Job"), one(documents, "Deployment")
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            port = mounted(root, documents)
            command = [LEASEHOLD, *arguments(job, root)]
            for _ in range(2):
                made = subprocess.run(command, capture_output=True, text=True)
                self.assertEqual(made.returncode, 0, made.stderr)
            with open(root / "log", "w") as log:
                broker = subprocess.Popen([LEASEHOLD, *arguments(deployment, root)], stderr=log)
            try:
                [container] = deployment["spec"]["template"]["spec"]["containers"]
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    self.assertTrue(answers(broker, port, container[probe]["httpGet"]["path"], root), probe)
                broker.send_signal(signal.SIGTERM)
                grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
                self.assertEqual(broker.wait(grace), 0)
            finally:
                broker.kill()
                broker.wait()


def arguments(workload, root):
    [container] = workload["spec"]["template"]["spec"]["containers"]
    return [argument.replace("/etc/leasehold", f"{root}/etc") for argument in container["args"]]


def mounted(root, documents):
    """The files of the pod under another root, and the port of its probes."""
    grpc_port, http_port = worlds.free_ports(2)
    for folder in ["config", "tls", "keyring", "bundles"]:
        (root / "etc" / folder).mkdir(parents=True)
    (root / "var").mkdir()
    text = configuration(documents)
    text = text.replace("/etc/leasehold", f"{root}/etc").replace("/var/lib/leasehold", f"{root}/var")
    text = text.replace("0.0.0.0:7700", f"127.0.0.1:{grpc_port}").replace("0.0.0.0:7701", f"127.0.0.1:{http_port}")
    (root / "etc/config/leasehold.toml").write_text(text)
    world = worlds.find()
    for name, file in [("tls.crt", world.cert_file("broker")), ("tls.key", world.key_file("broker"))]:
        (root / "etc/tls" / name).write_bytes(file.read_bytes())
    (root / "etc/keyring/key").write_bytes((world.folder / "keyring.key").read_bytes())
    for document in documents:
        if document["metadata"]["name"].endswith("-bundles"):
            for name, bundle in document["data"].items():
                (root / "etc/bundles" / name).write_text(bundle)
    return http_port


def answers(broker, port, path, root):
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS:
        if broker.poll() is not None:
            raise AssertionError((root / "log").read_text())
        try:
            context = worlds.find().tls()
            with urllib.request.urlopen(f"https://localhost:{port}{path}", context=context, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    return False


if __name__ == "__main__":
    unittest.main()
