/* unpack_driver.c: the C core's unpack, pack and remove as a command, for tests: linked with them under ASan and UBSan.
 *
 *   unpack_driver unpack DIRECTORY [single] [whiteout-files] [durable] [no-openat2] <tar     the result, a JSON object, to standard output
 *   unpack_driver pack DIRECTORY >tar                                                       to standard error
 *   unpack_driver remove DIRECTORY NAME [no-openat2]
 *   unpack_driver mutate DIRECTORY SECONDS SEED <tar      unpack the tar with random damage, over and over, beneath DIRECTORY
 *
 * With -DRL_FUZZ it is the target of libFuzzer, which unpacks beneath the working directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pack.h"
#include "tree.h"
#include "unpack.h"

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* Unpack bytes into a new directory and remove it. A tree that cannot be removed, or a result that makes no sense, aborts. */
static void try_bytes(int parent, const unsigned char *data, size_t size)
{
	const struct rl_unpack_options options = { .single_id = size % 2, .whiteout_files = size % 4 > 1 };
	struct rl_unpack_result result;
	struct rl_tree_failure failure;

	int tar = memfd_create("tar", MFD_CLOEXEC);
	if (tar < 0 || write(tar, data, size) != (ssize_t)size || lseek(tar, 0, SEEK_SET) < 0)
		die("memfd");
	if (mkdirat(parent, "root", 0755) < 0)
		die("mkdir");
	int root = openat(parent, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		die("open");
	int unpacked = rl_unpack(tar, root, &options, &result);
	if ((unpacked < 0) != (result.class != RL_UNPACK_DONE) || (unpacked < 0) != (result.text[0] != 0))
		abort();
	if (unpacked == 0) {
		struct rl_pack_result packed;
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (rl_pack(root, null, &packed) < 0) {
			fprintf(stderr, "pack: %s\n", packed.text);
			abort();
		}
		close(null);
	}
	close(root);
	close(tar);
	if (rl_remove_tree(parent, "root", &failure) < 0) {
		fprintf(stderr, "remove: %s\n", failure.text);
		abort();
	}
}

#ifdef RL_FUZZ

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* A header's checksum would keep a fuzzer outside: it is put right. */
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	unsigned char *copy = malloc(size + 1);

	memcpy(copy, data, size);
	for (size_t at = 0; at + 512 <= size; at += 512) {
		unsigned sum = 8 * ' ';
		char text[8];
		for (size_t i = 0; i < 512; i++)
			sum += i < 148 || i >= 156 ? copy[at + i] : 0;
		if (sum == 8 * ' ')
			continue;
		snprintf(text, sizeof text, "%06o", sum);
		memcpy(copy + at + 148, text, 7);
	}
	try_bytes(AT_FDCWD, copy, size);
	free(copy);
	return 0;
}

#else

static void print_json(FILE *stream, const char *name, const char *text)
{
	fprintf(stream, "\"%s\": \"", name);
	for (; *text; text++)
		fprintf(stream, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	fputc('"', stream);
}

/* openat2(2) fails with ENOSYS, as on Linux 5.5. */
static void forbid_openat2(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = sizeof filter / sizeof *filter, .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		die("seccomp");
}

static int open_directory(const char *path)
{
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		die(path);
	return directory;
}

static int unpack(int directory, const struct rl_unpack_options *options)
{
	struct rl_unpack_result result;
	int failed = rl_unpack(STDIN_FILENO, directory, options, &result) < 0;

	printf("{\"entries\": %llu, \"bytes\": %llu, \"skipped_devices\": %llu, \"skipped_xattrs\": %llu, \"opaque_root\": %s, \"class\": %d, \"error\": %d, ",
	       (unsigned long long)result.entries, (unsigned long long)result.bytes, (unsigned long long)result.skipped_devices,
	       (unsigned long long)result.skipped_xattrs, result.opaque_root ? "true" : "false", result.class, result.error);
	print_json(stdout, "text", result.text);
	printf("}\n");
	return failed;
}

static int pack(int directory)
{
	struct rl_pack_result result;
	int failed = rl_pack(directory, STDOUT_FILENO, &result) < 0;

	fprintf(stderr, "{\"entries\": %llu, \"bytes\": %llu, \"skipped_sockets\": %llu, \"error\": %d, ", (unsigned long long)result.entries,
		(unsigned long long)result.bytes, (unsigned long long)result.skipped_sockets, result.error);
	print_json(stderr, "text", result.text);
	fprintf(stderr, "}\n");
	return failed;
}

static int remove_tree(int directory, const char *name)
{
	struct rl_tree_failure failure = { 0 };
	int failed = rl_remove_tree(directory, name, &failure) < 0;

	printf("{\"error\": %d, ", failure.error);
	print_json(stdout, "text", failure.text);
	printf("}\n");
	return failed;
}

static int mutate(int directory, double seconds, unsigned seed)
{
	static unsigned char original[1 << 20], damaged[sizeof original];
	struct timespec start, now;
	unsigned long rounds = 0;
	size_t size = 0;
	ssize_t got;

	while ((got = read(STDIN_FILENO, original + size, sizeof original - size)) > 0)
		size += (size_t)got;
	size -= size % 512;
	srandom(seed);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		memcpy(damaged, original, size);
		for (long changes = random() % 8; changes >= 0; changes--) {
			size_t at = (size_t)random() % size;
			damaged[at] = random() % 3 ? (unsigned char)random() : (unsigned char)"\0\xff/ 9=\n.xLKS1"[random() % 13];
		}
		/* Half of the time the checksums are right, so that the damage gets further. */
		for (size_t at = 0; rounds % 2 && at < size; at += 512) {
			unsigned sum = 8 * ' ';
			char text[8];
			if (memcmp(original + at + 257, "ustar", 5) != 0)
				continue;
			for (size_t i = 0; i < 512; i++)
				sum += i < 148 || i >= 156 ? damaged[at + i] : 0;
			snprintf(text, sizeof text, "%06o", sum);
			memcpy(damaged + at + 148, text, 7);
		}
		try_bytes(directory, damaged, size - (rounds % 5 == 0 ? (size_t)random() % size : 0));
		rounds++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
	printf("%lu\n", rounds);
	return 0;
}

int main(int argc, char **argv)
{
	struct rl_unpack_options options = { 0 };

	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	for (int i = 3; i < argc; i++) {
		options.single_id |= strcmp(argv[i], "single") == 0;
		options.whiteout_files |= strcmp(argv[i], "whiteout-files") == 0;
		options.durable |= strcmp(argv[i], "durable") == 0;
		if (strcmp(argv[i], "no-openat2") == 0)
			forbid_openat2();
	}
	int directory = open_directory(argv[2]);
	if (strcmp(argv[1], "unpack") == 0)
		return unpack(directory, &options);
	if (strcmp(argv[1], "pack") == 0)
		return pack(directory);
	if (strcmp(argv[1], "remove") == 0 && argc > 3)
		return remove_tree(directory, argv[3]);
	if (strcmp(argv[1], "mutate") == 0 && argc > 4)
		return mutate(directory, atof(argv[3]), (unsigned)atoi(argv[4]));
	return 2;
}

#endif
