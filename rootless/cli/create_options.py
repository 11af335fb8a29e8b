"""The options of `rl run` and `rl create`. `create_request` gives them their meaning. Hot."""

from __future__ import annotations

from types import MappingProxyType

from .command import choice, flag, integer, size, text

CREATE_OPTIONS = (
    text("--add-host", "Add a line to /etc/hosts", "NAME:IP", many=True),
    text("--annotation", "Add an annotation to the OCI configuration", "KEY=VALUE", many=True),
    text("--cap-add", "Add a capability", "CAPABILITY", many=True),
    text("--cap-drop", "Drop a capability", "CAPABILITY", many=True),
    text("--cgroupns", "Cgroup namespace: private or host", "MODE"),
    text("--cidfile", "Write the container's id to this file", "FILE", completes="file"),
    text("--detach-keys", "Keys that leave the container running", "KEYS", default="ctrl-p,ctrl-q"),
    text("--device", "Give the container a device of the host", "HOST[:CONTAINER[:rwm]]", many=True, completes="file"),
    text("--dns", "Name server", "IP", many=True),
    text("--dns-option", "Option of resolv.conf", "OPTION", many=True),
    text("--dns-search", "Search domain; . for none", "DOMAIN", many=True),
    text("--entrypoint", "Replace the image's entrypoint; a JSON list for several words, empty for none", "COMMAND"),
    text("-e --env", "Set a variable, or pass one on by its name alone", "NAME[=VALUE]", many=True),
    text("--env-file", "Set the variables in this file", "FILE", many=True, completes="file"),
    text("--expose", "Expose a port", "PORT[/PROTOCOL]", many=True),
    text("--group-add", "Add a supplementary group, or keep-groups", "GROUP", many=True),
    text("-h --hostname", "Host name", "NAME"),
    flag("--init", "Run an init that forwards signals and reaps processes"),
    flag("-i --interactive", "Keep standard input open"),
    text("--ipc", "IPC namespace: private, none, host, shareable, container:NAME", "MODE"),
    text("-l --label", "Set a label", "KEY[=VALUE]", many=True),
    text("--label-file", "Set the labels in this file", "FILE", many=True, completes="file"),
    text("--log-driver", "Where the output goes: k8s-file or none", "DRIVER"),
    text("--log-opt", "Option of the log driver", "KEY=VALUE", many=True),
    text("--mount", "Mount a host directory, a volume or a tmpfs", "type=TYPE,target=PATH[,…]", many=True),
    text("--name", "Name of the container", "NAME"),
    text("--network --net", "Network: slirp4netns, none, host, container:NAME", "MODE", completes="network"),
    integer("--oom-score-adj", "Preference of the host's OOM killer, -1000 to 1000"),
    text("--pid", "PID namespace: private, host, container:NAME", "MODE"),
    text("--pidfile", "Write the pid of the container's first process to this file", "FILE", completes="file"),
    text("--platform", "Platform of the image", "OS/ARCH[/VARIANT]"),
    flag("--privileged", "All capabilities, no masked paths, no seccomp"),
    text("-p --publish", "Publish a port of the container", "[[IP:]HOST:]PORT[/PROTOCOL]", many=True),
    flag("-P --publish-all", "Publish all exposed ports to free ports of the host"),
    choice("--pull", "When to pull the image", "missing", "always", "never", "newer", default="missing"),
    flag("-q --quiet", "Print no progress"),
    flag("--read-only", "Mount the root file system read-only"),
    flag("--rm", "Remove the container when it ends"),
    text("--security-opt", "no-new-privileges, seccomp=FILE|unconfined, mask=PATHS, unmask=PATHS|ALL", "OPTION", many=True),
    size("--shm-size", "Size of /dev/shm (64m)"),
    flag("--sig-proxy", "Pass signals on to the container", default=True),
    text("--stop-signal", "Signal of rl stop", "SIGNAL"),
    integer("--stop-timeout", "Seconds that rl stop waits before it kills", "SECONDS", default=10),
    text("--sysctl", "Set a kernel parameter of the container's namespaces", "NAME=VALUE", many=True),
    flag("--tls-verify", "Require HTTPS and verify certificates", default=None),
    text("--tmpfs", "Mount a tmpfs", "PATH[:OPTIONS]", many=True),
    flag("-t --tty", "Give the container a terminal"),
    text("--ulimit", "Set a resource limit, or all as the caller's: host", "NAME=SOFT[:HARD]", many=True),
    text("--umask", "File mode creation mask, octal", "MASK"),
    text("-u --user", "User and group", "USER[:GROUP]"),
    text("--userns", "User namespace: host (of the caller's containers)", "MODE"),
    text("--uts", "UTS namespace: private, host", "MODE"),
    text("-v --volume", "Mount a host directory or a volume", "[SOURCE:]PATH[:OPTIONS]", many=True, completes="directory"),
    text("-w --workdir", "Working directory", "PATH"),
)  # fmt: skip

RUN_OPTIONS = (*CREATE_OPTIONS, flag("-d --detach", "Run in the background and print the id"))

LATER = MappingProxyType(
    {
        f"--{name}": f"--{name}"
        for name in (
            "arch attach authfile blkio-weight blkio-weight-device cgroup-conf cgroup-parent cgroups conmon-pidfile cpu-count cpu-percent cpu-period "
            "cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems decryption-key device-cgroup-rule device-read-bps "
            "device-read-iops device-write-bps device-write-iops disable-content-trust domainname env-merge gidmap gpus group-entry health-cmd "
            "health-interval health-on-failure health-retries health-start-interval health-start-period health-timeout hostuser http-proxy "
            "image-volume init-ctr init-path intel-rdt-closid ip ip6 isolation kernel-memory link link-local-ip mac-address memory "
            "memory-reservation memory-swap memory-swappiness network-alias no-healthcheck no-hostname no-hosts oom-kill-disable os passwd "
            "passwd-entry personality pids-limit pod preserve-fd preserve-fds rdt-class read-only-tmpfs replace requires restart retry retry-delay "
            "rootfs runtime sdnotify secret shm-size-systemd storage-opt subgidname subuidname systemd timeout tz uidmap unsetenv "
            "unsetenv-all variant volume-driver volumes-from"
        ).split()
    }
    | {"-a": "--attach", "-c": "--cpu-shares", "-m": "--memory"}
)
"""Options of `docker run` and `podman run` that we know and do not have yet: as typed -> its long name."""
