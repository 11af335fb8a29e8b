"""Builder of the cffi module `rootless._lowlevel._seccomp`: the part of libseccomp that `seccomp.py` uses.

libseccomp is linked in from its static library, so that neither a wheel nor the one-file `rl` needs libseccomp.so on the machine it runs on.
"""

from __future__ import annotations

import os
import subprocess

import cffi

# scmp_filter_ctx is a void *, which cffi would let everything be; here it is a type of its own.
_DECLARATIONS = """
typedef ... *scmp_filter_ctx;
typedef uint64_t scmp_datum_t;

enum scmp_compare { SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ, ... };
enum scmp_filter_attr { SCMP_FLTATR_CTL_OPTIMIZE, ... };
#define __NR_SCMP_ERROR ...

struct scmp_arg_cmp { unsigned int arg; enum scmp_compare op; scmp_datum_t datum_a; scmp_datum_t datum_b; ...; };

scmp_filter_ctx seccomp_init(uint32_t def_action);
void seccomp_release(scmp_filter_ctx ctx);
uint32_t seccomp_arch_native(void);
uint32_t seccomp_arch_resolve_name(const char *arch_name);
int seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch_token);
int seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch_token);
int seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value);
char *seccomp_syscall_resolve_num_arch(uint32_t arch_token, int num);
int seccomp_syscall_resolve_name(const char *name);
int seccomp_syscall_resolve_name_arch(uint32_t arch_token, const char *name);
int seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int syscall, unsigned int arg_cnt, const struct scmp_arg_cmp *arg_array);
int seccomp_export_bpf(const scmp_filter_ctx ctx, int fd);
void free(void *);
"""

_SOURCE = "#include <stdlib.h>\n#include <seccomp.h>\n"


def seccomp_builder() -> cffi.FFI:
    """RuntimeError where the static library is not installed."""
    compiler = os.environ.get("CC", "cc").split()
    library = subprocess.run(
        [*compiler, "-print-file-name=libseccomp.a"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(library):
        raise RuntimeError("libseccomp.a is not there: apt install libseccomp-dev")
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    ffi.set_source(
        "rootless._lowlevel._seccomp",
        _SOURCE,
        extra_objects=[library],
        extra_compile_args=["-std=gnu11", "-O2"],
        # Hidden symbols: Debian's objects are position independent only where nothing can be interposed; nor do we export them.
        extra_link_args=["-Wl,--exclude-libs,ALL"],
    )
    return ffi
