/* host.h: what the Python process itself asks of the kernel, beyond Python's os module. Built into the cffi module only; each returns -1 and errno on failure. */
#ifndef RL_HOST_H
#define RL_HOST_H

#include <stddef.h>
#include <stdint.h>

/* Clone a process in a new user namespace; it waits, doing nothing, until *release is closed. Returns its pid. */
int rl_userns_create(int *release);

/* Clone a process that enters a user namespace and waits there until *release is closed. Returns its pid. */
int rl_userns_visit(int userns, int *release);

/* A sealed memory file of these bytes: nobody can change it, not even through /proc/PID/exe. `executable` as memfd_create(2) MFD_EXEC. Returns a descriptor. */
int rl_sealed_file(const char *name, const void *data, size_t size, int executable);

/* Execute the program in descriptor `program` with `given[i]` at descriptor 3 + i (-1: left closed) and /dev/null as its standard streams. Returns its pid. */
int rl_spawn(int program, char *const argv[], char *const environment[], const int *given, int count);

/* openat2(2) beneath `root`, symlinks resolved inside it, magic links refused. Returns a descriptor. */
int rl_open_beneath(int root, const char *path, int flags);

/* A pair of connected SOCK_SEQPACKET sockets. */
int rl_socketpair(int pair[2]);

/* Connect to the socket `name` in the directory `directory` (names longer than sun_path are no obstacle). Returns a descriptor. */
int rl_connect(int directory, const char *name);

/* setns(2) and unshare(2), for `rl unshare`: the caller is single-threaded. */
int rl_enter_userns(int userns, int mount_namespace);

#endif
