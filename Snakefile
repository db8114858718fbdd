# A study's plan as jobs of a cluster. `make study-cluster PLAN=... PROFILE=...` calls it, by way of bundle/study/cluster.py, which
# checks all that can be checked before. A job here is a call of `make study-jobs`, the one that `make study` makes: the
# same code, the same state on disk, and done is done for both. The engine knows a job only by the empty file that it
# leaves last: of what is declared it deletes, before every attempt, outputs and logs alike. So checkpoints, weights and
# findings are none of its business, and neither is a job's log, to which each attempt adds.
import shlex

PLAN, TINY = config["plan"], "1" if config.get("tiny") else ""
JOBS, TODO = str(config["jobs"]).split(), str(config["todo"]).split()
TOGETHER = int(config.get("jobs_per_gpu", 1))
SCRATCH = str(config.get("scratch") or "")
BIN = shlex.quote(str(config.get("bin") or ".venv/bin"))
HOME = shlex.quote(str(config.get("home") or "."))
FOLDER = f"results/studies/{PLAN}{'-tiny' if TINY else ''}/cluster"

# Several jobs for one GPU go together, always the same ones, whatever is done already: a job is its name.
PACKS = {}
for first in range(0, len(JOBS), TOGETHER):
    jobs = JOBS[first : first + TOGETHER]
    PACKS[jobs[0] if len(jobs) == 1 else f"{jobs[0]}+{len(jobs) - 1}"] = jobs


rule all:
    input:
        [f"{FOLDER}/{pack}.done" for pack, jobs in PACKS.items() if set(jobs) & set(TODO)],
    localrule: True


rule train:
    output:
        touch(f"{FOLDER}/{{pack}}.done"),
    threads: 2 * TOGETHER  # `threads` in params/RUN.yaml is 2; more does not make a job faster
    params:
        log=f"{FOLDER}/{{pack}}.log",
        jobs=lambda wildcards: " ".join(PACKS[wildcards.pack]),
        root=f"$({BIN}/python -m bundle data --node {shlex.quote(SCRATCH)})" if SCRATCH else "$(printenv CIFAR10_ROOT || true)",
    shell:
        "cd {HOME} && exec >>{params.log} 2>&1; echo \"$(date) on $(hostname): {params.jobs}\"; root={params.root} && "
        "CIFAR10_ROOT=$root BUNDLE_OFFLINE=1 make --no-print-directory --keep-going -j{TOGETHER} study-jobs "
        "PLAN={PLAN} TINY={TINY} WAIT=600 BIN={BIN} JOBS='{params.jobs}'"
