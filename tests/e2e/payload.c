/* payload.c: what a test asks inside a container that Alpine has no program for. Static; one question a run, the answer on standard output. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int hexadecimal(const char *path, const char *name, const char *digits)
{
	unsigned char value[256];
	size_t length = strlen(digits) / 2;

	for (size_t i = 0; i < length && i < sizeof value; i++) {
		unsigned byte;
		if (sscanf(digits + 2 * i, "%2x", &byte) != 1)
			return 2;
		value[i] = (unsigned char)byte;
	}
	return setxattr(path, name, value, length, 0) < 0 ? fail("set") : 0;
}

int main(int argc, char **argv)
{
	char value[256];

	if (argc == 4 && strcmp(argv[1], "get") == 0) {
		ssize_t length = getxattr(argv[2], argv[3], value, sizeof value);
		return length < 0 ? fail("get") : (printf("%.*s\n", (int)length, value), 0);
	}
	if (argc == 5 && strcmp(argv[1], "set") == 0)
		return setxattr(argv[2], argv[3], argv[4], strlen(argv[4]), 0) < 0 ? fail("set") : 0;
	if (argc == 5 && strcmp(argv[1], "sethex") == 0)
		return hexadecimal(argv[2], argv[3], argv[4]);
	if (argc == 2 && strcmp(argv[1], "ids") == 0) {
		printf("%d %d\n", (int)getuid(), (int)geteuid());
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "capabilities") == 0) {
		FILE *status = fopen("/proc/self/status", "r");
		while (status && fgets(value, sizeof value, status))
			if (strncmp(value, "CapEff:", 7) == 0)
				printf("%llx\n", strtoull(value + 7, NULL, 16));
		return status ? 0 : fail("status");
	}
	return 2;
}
