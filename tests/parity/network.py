"""Training over a network: two network namespaces with host names of their own, joined by a link of 1 Gbit/s, through which alone
the ranks meet. Adapters, traffic, a link that fails, and other files on one of the hosts.

    network.py BEZEL_FOLDER TEST_FOLDER

Needs root, iproute2 and a kernel with namespaces, veth and tbf; is skipped where those are not.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _runs import MODEL, PATIENCE_S, ROOT
from processes import ENVIRONMENT, RESUME, Group, other_model

RATE = 1e9  # bits a second
NETWORK = "10.77.0"
DEVICE = "eth0"
# About 4 MB of adapter, so that an update's gradients are what it sends.
WIDE = {"target-modules": "all-linear", "lora-r": 256, "lora-alpha": 256, "val-set-size": 0, "save-steps": 0, "logging-steps": 1, "learning-rate": 1e-4,
        "lora-dropout": 0.1}


class Skip(Exception):
    pass


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Host:
    """A process that holds a network, a host name and mounts of its own; they go with it."""

    def __init__(self, number):
        self.name, self.address = f"node-{number}", f"{NETWORK}.{number}"
        script = f"mount --make-rprivate / && mount -t sysfs sysfs /sys && hostname {self.name} && ip link set lo up && echo ready && exec sleep infinity"
        self.process = subprocess.Popen(["unshare", "--net", "--uts", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise Skip(f"no namespaces here: {self.process.stderr.read().strip()}")

    def enter(self):
        return ["nsenter", f"--target={self.process.pid}", "--net", "--uts", "--mount", f"--wd={os.getcwd()}"]

    def run(self, *command):
        return call(*self.enter(), *command)

    def sent(self):
        """Bytes that have left through the link."""
        return int(self.run("cat", f"/sys/class/net/{DEVICE}/statistics/tx_bytes"))

    def shaped(self):
        """Bytes that the limit of the link has let through."""
        return int(re.search(r"qdisc tbf .*?Sent (\d+) bytes", self.run("tc", "-statistics", "qdisc", "show", "dev", DEVICE), re.DOTALL)[1])

    def end(self):
        self.process.kill()
        self.process.wait()


class Network:
    """Two hosts and their link."""

    def __init__(self, folder):
        self.hosts = []
        self.delay = False
        try:
            for number in (1, 2):
                self.hosts.append(Host(number))
            self.join(folder)
        except BaseException:
            self.end()
            raise

    def join(self, folder):
        first, second = self.hosts
        first.run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", second.process.pid)
        for host in self.hosts:
            host.run("ip", "address", "add", f"{host.address}/24", "dev", DEVICE)
            host.run("ip", "link", "set", DEVICE, "up")
            host.run("tc", "qdisc", "add", "dev", DEVICE, "root", "handle", "1:", "tbf", "rate", "1gbit", "burst", "128kb", "latency", "100ms")
            delays = subprocess.run([*host.enter(), "tc", "qdisc", "add", "dev", DEVICE, "parent", "1:1", "handle", "10:", "netem", "delay", "200us", "limit", "10000"],
                                    capture_output=True)
            self.delay = delays.returncode == 0
        # What mpirun starts its daemon with on the other host: "agent HOST COMMAND…".
        self.agent = folder / "agent"
        self.agent.write_text(f"#!/bin/sh\n[ \"$1\" = {second.address} ] || {{ echo \"no host $1\" >&2; exit 1; }}\nshift\nexec {' '.join(second.enter())} sh -c \"$*\"\n")
        self.agent.chmod(0o755)

    def mpirun(self):
        """Two ranks, one on each host, that have TCP and nothing else."""
        options = {"plm_rsh_agent": self.agent, "btl": "tcp,self", "pml": "ob1", "btl_tcp_if_include": f"{NETWORK}.0/24", "oob_tcp_if_include": f"{NETWORK}.0/24",
                   # By these mpirun misses a host whose link is down; its own are minutes.
                   "oob_tcp_keepalive_time": 4, "oob_tcp_keepalive_intvl": 1, "oob_tcp_keepalive_probes": 3}
        mca = [part for name, value in options.items() for part in ("--mca", name, str(value))]
        return [*self.hosts[0].enter(), "mpirun", "-n", "2", *mca, "--host", ",".join(f"{host.address}:1" for host in self.hosts)]

    def end(self):
        for host in self.hosts:
            host.end()


class Cluster(Group):
    """Runs on the two hosts."""

    def __init__(self, network, *args, **flags):
        super().__init__(*args, **flags)
        self.network = network

    def command(self, out, *extra, **flags):
        alone = self.of(1)
        alone.flags = self.flags
        return [*self.network.mpirun(), *Group.command(alone, out, *extra, **flags)]


def adapter(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def traffic(cluster, updates, **flags):
    """Bytes that each host sends in a run of so many updates."""
    before = [host.sent() for host in cluster.network.hosts]
    cluster.run(f"traffic-{updates}", max_steps=updates, **flags)
    sent = [host.sent() - at for host, at in zip(cluster.network.hosts, before)]
    size = (cluster.folder / f"traffic-{updates}" / "adapter_model.safetensors").stat().st_size
    shutil.rmtree(cluster.folder / f"traffic-{updates}")
    return sent, size


def bytes_by_table(size):
    """What docs/CLUSTER.md says that each rank sends in an update at most, by its row of 50 MB at 1 Gbit/s."""
    seconds = re.search(r"\| 50 MB \| ([0-9.]+) \|", (ROOT / "docs" / "CLUSTER.md").read_text())
    return float(seconds[1]) * RATE / 8 / 50e6 * size


def check_traffic(cluster, dtype, share):
    """Of two runs the difference, so that what a run begins and ends with does not count."""
    flags = {"reduce_dtype": dtype} if dtype != "float32" else {}
    few, _ = traffic(cluster, 2, **flags)
    many, size = traffic(cluster, 12, **flags)
    # With two ranks each keeps a half to itself.
    wanted = share * bytes_by_table(size) / 2
    for host, a, b in zip(cluster.network.hosts, few, many):
        got = (b - a) / 10
        print(f"{dtype}: {host.name} sends {got / 1e6:.3f} MB an update, {wanted / 1e6:.3f} by the table ({got / wanted - 1:+.1%}); adapter {size / 1e6:.2f} MB", flush=True)
        assert abs(got / wanted - 1) <= 0.1, (host.name, got, wanted)


def check_link(network, bezel):
    """The link is as slow as it is said to be, and doctor shows both hosts."""
    done = subprocess.run([*network.mpirun(), bezel / "bezel", "doctor", "--json"], capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRONMENT)
    assert done.returncode == 0, done
    report = json.loads(done.stdout)["processes"]
    assert [rank["host"] for rank in report["ranks"]] == [host.name for host in network.hosts], report
    largest = max(report["sums"], key=lambda row: row["bytes"])
    rate = 8 * largest["bytes"] / largest["seconds"]  # of two ranks each sends half the sum twice
    print(f"the link: {rate / 1e9:.2f} Gbit/s each way{', with a delay' if network.delay else '; no netem in this kernel, so no delay'}", flush=True)
    assert rate < 1.05 * RATE, report
    for host in network.hosts:
        assert host.shaped() > largest["bytes"], (host.shaped(), largest)


def check_same_adapter(cluster, **flags):
    alone = cluster.folder / "local"
    subprocess.run(["mpirun", "-n", "2", *cluster.command("local", **flags)[len(cluster.network.mpirun()):]], check=True, capture_output=True, env=ENVIRONMENT)
    cluster.run("network", **flags)
    assert adapter(cluster.folder / "network") == adapter(alone)
    metrics = [json.loads(line) for line in (cluster.folder / "network" / "metrics.jsonl").read_text().splitlines()]
    assert metrics and all(row["ranks"] == 2 for row in metrics if "loss" in row), metrics


def refused(cluster, code, *words, out="refused", extra=(), **flags):
    """A run that one host ends: exit code, one message, and what it says."""
    done = subprocess.run(cluster.command(out, *extra, **flags), capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRONMENT)
    own = [line for line in done.stderr.splitlines() if line.startswith("bezel: ")]
    assert done.returncode == code and len(own) == 1 and all(word in own[0] for word in words), (done.returncode, own, done.stderr)


class Elsewhere:
    """What one host finds at `path`, in place of what the other does."""

    def __init__(self, host, path, other):
        self.host, self.path, self.other = host, path, other

    def __enter__(self):
        self.host.run("mount", "--bind", self.other, self.path)

    def __exit__(self, *_):
        self.host.run("umount", self.path)


def check_other_files(cluster):
    """Data, model and checkpoints that are not the same on both hosts are refused, with the name of the host."""
    host, folder = cluster.network.hosts[1], cluster.folder
    who = f"rank 1 on host {host.name}"
    lines = (folder / "train.jsonl").read_text().splitlines()
    (folder / "longer.jsonl").write_text("\n".join([*lines, lines[0]]) + "\n")
    (folder / "damaged.jsonl").write_text("\n".join([*lines[:4], lines[4][:30], *lines[5:]]) + "\n")
    with Elsewhere(host, folder / "train.jsonl", folder / "longer.jsonl"):
        refused(cluster, 3, who, "train_file")
    with Elsewhere(host, folder / "train.jsonl", folder / "damaged.jsonl"):
        refused(cluster, 3, who, "train.jsonl:5")
    with Elsewhere(host, MODEL, other_model(folder / "model")):
        refused(cluster, 3, who, "model")
    # What both began with is gone on one of them, or another run's.
    cluster.run("run", max_steps=4, save_steps=2)
    wanted = adapter(folder / "run")
    shutil.copytree(folder / "run", folder / "older")
    shutil.rmtree(folder / "older" / "checkpoint-4")
    with Elsewhere(host, folder / "run", folder / "older"):
        refused(cluster, 4, who, "checkpoint-4", "checkpoint-2", out="run", extra=(RESUME,), max_steps=4, save_steps=2)
    assert adapter(folder / "run") == wanted
    print("other files on one host: refused", flush=True)


def check_dead_link(cluster):
    """A host that cannot be reached any more is named; the run goes on without it."""
    begin = time.monotonic()
    flags = dict(max_steps=60, save_steps=1, save_total_limit=2)

    def cut(_):
        cluster.network.hosts[1].run("ip", "link", "set", DEVICE, "down")

    process = cluster.start("cut", **flags)
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "step 3/60" in line:
            cut(process)
    code, took = process.wait(PATIENCE_S), time.monotonic() - begin
    text = "".join(seen)
    assert code != 0 and took < 60, (code, took, text)
    # mpirun's daemon on that host may be missed before the rank is.
    assert re.search(f"{cluster.network.hosts[1].address}|{cluster.network.hosts[1].name} has not answered", text), text
    print(f"a link that fails ends the run after {took:.0f} s", flush=True)
    alone = Group(cluster.bezel, cluster.folder, **{key: value for key, value in cluster.flags.items() if key not in ("train-file", "gradient-accumulation-steps")},
                  gradient_accumulation_steps=2)
    text = alone.run("cut", RESUME, **flags)
    assert "resumed after step" in text, text


def main():
    bezel = Path(sys.argv[1])
    missing = [tool for tool in ("mpirun", "ip", "tc", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing or not (bezel / "libbezel_mpi.so").exists():
        print(f"skipped: {', '.join(missing) or 'libbezel_mpi.so'} is missing")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        try:
            network = Network(Path(temporary))
        except Skip as why:
            print(f"skipped: two network namespaces with a shaped link cannot be made here (root is needed): {why}")
            return 77
        try:
            def cluster(name, **flags):
                folder = Path(temporary) / name
                folder.mkdir()
                return Cluster(network, bezel / "bezel", folder, **flags)
            check_link(network, bezel)
            check_same_adapter(cluster("same"))
            check_other_files(cluster("other"))
            wide = cluster("wide", **{key.replace("-", "_"): value for key, value in WIDE.items()}, gradient_accumulation_steps=1)
            check_traffic(wide, "float32", 1.0)
            if "--old" not in sys.argv:
                check_traffic(wide, "bfloat16", 0.5)
            check_dead_link(cluster("dead", gradient_accumulation_steps=1, val_set_size=0))
        finally:
            network.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
