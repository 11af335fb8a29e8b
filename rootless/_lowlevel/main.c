/* main.c: the core program. `rl` executes it from a sealed memory file; it is not a command for people. */
#include <string.h>

#include "modes.h"

static const struct mode {
	const char *name;
	int (*run)(int argc, char **argv);
} modes[] = {
	{ "monitor", rl_mode_monitor }, { "join", rl_mode_join }, { "try", rl_mode_try },
	{ "unpack", rl_mode_unpack },   { "pack", rl_mode_pack }, { "remove", rl_mode_remove },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
		if (strcmp(argv[1], modes[i].name) == 0)
			return modes[i].run(argc, argv);
	return 125;
}
