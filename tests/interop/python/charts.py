"""Helm, kubeconform and Kubernetes' own schemas, as this machine's package indexes have them.

`python charts.py install FOLDER` installs them; the suite finds them by the environment variable LEASEHOLD_INTEROP_CHARTS.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
# A wheel of nothing but Kubernetes' published schemas and a small program; what else it depends on is not needed.
SCHEMAS = "kubernetes-validate==1.37.0"
# The oldest that the chart says it is for, and the newest that there are schemas of.
KUBERNETES = ["1.27.0", "1.37.0"]
KINDS = [
    "clusterrolebinding-rbac-v1", "configmap-v1", "deployment-apps-v1", "job-batch-v1", "networkpolicy-networking-v1", "persistentvolumeclaim-v1",
    "poddisruptionbudget-policy-v1", "service-v1", "serviceaccount-v1",
]


def install(folder):
    """Installs what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps([HELM, KUBECONFORM, SCHEMAS, KUBERNETES, KINDS])
    stamp = folder / "installed.json"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for package in [HELM, KUBECONFORM]:
        subprocess.run(["go", "install", package], check=True, env={**os.environ, "GOBIN": str(folder)})
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--dest", folder, SCHEMAS], check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for version in KUBERNETES:
            unpack(archive, version, folder / f"v{version}")
    wheel.unlink()
    stamp.write_text(wanted)


def unpack(archive, version, folder):
    """Each kind's schema with everything that it refers to: kubeconform follows no path inside a wheel."""
    place = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
    definitions = here(json.loads(archive.read(f"{place}/_definitions.json"))["$defs"])
    folder.mkdir(exist_ok=True)
    for kind in KINDS:
        schema = here(json.loads(archive.read(f"{place}/{kind}.json")))
        schema["$defs"] = definitions
        (folder / f"{kind}.json").write_text(json.dumps(schema))


def here(value):
    """The same schema, whose references begin at its own root."""
    if isinstance(value, dict):
        return {name: reference(item) if name == "$ref" else here(item) for name, item in value.items()}
    return [here(item) for item in value] if isinstance(value, list) else value


def reference(target):
    return "#" + target.partition("#")[2] if isinstance(target, str) else here(target)


if __name__ == "__main__":
    command, path = sys.argv[1:]
    assert command == "install", command
    install(Path(path))
