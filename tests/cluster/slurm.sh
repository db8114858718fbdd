#!/usr/bin/env bash
# A Slurm of two small nodes on this machine: slurm.sh start FOLDER writes FOLDER/slurm.conf and starts munged, slurmctld and
# two slurmd; slurm.sh stop FOLDER ends them. Debian, as root; what is missing is installed. No service of the system is
# used, and of its files only a link, CONF below, is made: the engine keeps SLURM_CONF from its jobs. A Slurm that is
# configured here already is left alone.
set -euo pipefail
folder=$2
CONF=/etc/slurm/slurm.conf
ours() { [ -L "$CONF" ] && { [ ! -e "$CONF" ] || grep -q "ClusterName=bundle" "$CONF"; }; }

if [ "$1" = stop ]; then
  for name in slurmd.one slurmd.two slurmctld munged; do
    [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
  done
  if ours; then rm "$CONF"; fi
  exit 0
fi

if ours; then rm "$CONF"; fi
[ ! -e "$CONF" ] || { echo "error: $CONF: a Slurm is configured here already; this is for a machine without one" >&2; exit 2; }
if ! { command -v munged && command -v slurmctld && command -v slurmd && command -v sbatch; } >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    { echo "error: slurmctld, slurmd and munge are not here; install Debian's packages slurmctld slurmd slurm-client munge" >&2; exit 2; }
  (apt-get update && apt-get install -y --no-install-recommends munge slurmctld slurmd slurm-client) >"$folder.apt.log" 2>&1 ||
    { tail -n 3 "$folder.apt.log" >&2; exit 2; }
fi

mkdir -p "$folder"/{state,spool.one,spool.two}
chmod 755 "$folder"
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 600 "$folder/munge.key"
host=$(hostname -s)
cat >"$folder/slurm.conf" <<CONF
ClusterName=bundle
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
SlurmctldPort=26817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=1
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=600
JobRequeue=1
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
mkdir -p "$(dirname "$CONF")"
ln -s "$folder/slurm.conf" "$CONF"
munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
slurmctld -i
for node in one two; do slurmd -N $node; done
for _ in $(seq 60); do
  [ "$(sinfo --noheader --Node --format=%t 2>/dev/null | grep -c idle)" = 2 ] && exit 0
  sleep 0.5
done
echo "error: the two nodes did not come up; see $folder/*.log" >&2
tail -n 5 "$folder"/slurm*.log >&2
exit 1
