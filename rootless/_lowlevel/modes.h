/* modes.h: what the core program can be told to do: `rl-core MODE …`, with the descriptors of core.h. Each returns the exit code of the program. */
#ifndef RL_MODES_H
#define RL_MODES_H

/* Keep one container: its root file system, its process, its streams, its end. Descriptor 5: its user namespace. argv[2]: a title for ps(1). */
int rl_mode_monitor(int argc, char **argv);

/* Run a plan in the namespaces of a process (descriptor 5: a pidfd; argv[2]: mask of CLONE_NEW*) and be its parent. Descriptors 6 to 8: its streams. */
int rl_mode_join(int argc, char **argv);

/* Perform a plan in fresh namespaces of a user namespace (descriptor 5) and report its first failure, without executing anything: for the tests of single operations. */
int rl_mode_try(int argc, char **argv);

/* Unpack the tar at descriptor 6 into the directory argv[2], in the user namespace at descriptor 5. argv[3]…: any of "single", "durable", "whiteout-files". */
int rl_mode_unpack(int argc, char **argv);

/* Pack the directory argv[2], or what is at argv[3] in the root argv[2], into a tar at descriptor 6, in the user namespace at descriptor 5. */
int rl_mode_pack(int argc, char **argv);

/* Remove the tree argv[3] in the directory argv[2], in the user namespace at descriptor 5. */
int rl_mode_remove(int argc, char **argv);

#endif
