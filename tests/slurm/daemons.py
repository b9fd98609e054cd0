"""A real Slurm on this one machine: munged, slurmctld and slurmd,
started from nothing and ended without a trace.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

PLACE = Path("/etc/slurm/slurm.conf")  # Debian's: jobs do not get SLURM_CONF
NEEDED = "munged slurmctld slurmd sbatch srun squeue scancel scontrol sinfo".split()
CORES = 4  # that the machine is said to have, whatever it has: jobs at a time
CONFIGURATION = """ClusterName=s2l
SlurmctldHost={host}
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
SlurmdParameters=config_overrides
NodeName={host} CPUs={cores} RealMemory={memory}
PartitionName=runs Nodes={host} Default=YES PriorityTier=1 GraceTime=0
PartitionName=urgent Nodes={host} PriorityTier=2
"""


def missing() -> str:
    """Why a Slurm cannot be started here; empty where it can."""
    if platform.system() != "Linux" or os.geteuid():
        return "it needs Linux and root: it starts the daemons of Slurm"
    absent = [name for name in NEEDED if not shutil.which(name)]
    if absent:
        return (
            f"{', '.join(absent)} not found. On Debian or Ubuntu: apt-get install slurm-wlm munge"
        )
    if PLACE.exists():
        return (
            f"{PLACE} exists: this machine has a Slurm of its own, or a run of this test was"
            " killed. Move it away"
        )
    return ""


def said(*command: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def cluster(base: Path):
    """Inside, sbatch and its kin work; afterwards daemons and configuration are gone."""
    for name in ("state", "spool"):
        (base / name).mkdir(parents=True)
    base.chmod(0o755)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    values = {"host": socket.gethostname().split(".")[0], "cores": CORES, "memory": memory - 512}
    PLACE.parent.mkdir(exist_ok=True)
    PLACE.write_text(CONFIGURATION.format(base=base, **values))
    (base / "munge.key").write_bytes(os.urandom(128))
    (base / "munge.key").chmod(0o600)
    files = [f"--{name}-file={base}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = [["munged", "--foreground", "--force", f"--socket={base}/munge.socket", *files]]
    commands += [["slurmctld", "-D"], ["slurmd", "-D", "-N", values["host"]]]
    daemons = []
    try:
        for command in commands:
            daemons.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(2)
        for _ in range(60):
            if subprocess.run(
                ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True
            ).stdout.startswith("idle"):
                break
            time.sleep(1)
        else:
            sys.exit(
                "Slurm does not start:\n"
                + "\n".join(f.read_text()[-2000:] for f in base.glob("slurm*.log"))
            )
        yield
    finally:
        subprocess.run(["scancel", "--user=root", "--full"], capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
        PLACE.unlink()
