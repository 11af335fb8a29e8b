/* mounts.c: the file system of a container, built beneath a descriptor of its root.
 *
 * A path of the container is never handed to the kernel as a path of the host. It is resolved once, beneath the root, into a descriptor, and the mount goes
 * onto the descriptor; an image full of symlinks cannot lead a mount outside, nor can a process that swaps them meanwhile.
 */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "syscalls.h"

/* "/proc/self/fd/N", for the system calls that take a path and no descriptor. */
struct fd_path {
	char text[32];
};

static struct fd_path fd_path(int descriptor)
{
	struct fd_path path = { "/proc/self/fd/" };
	char digits[12];
	size_t count = 0, end = strlen(path.text);

	do
		digits[count++] = (char)('0' + descriptor % 10);
	while (descriptor /= 10);
	while (count)
		path.text[end++] = digits[--count];
	path.text[end] = 0;
	return path;
}

static int close_keeping_errno(int descriptor)
{
	int saved = errno;

	close(descriptor);
	errno = saved;
	return -1;
}

/* Close a descriptor and give back the result of the call before it. */
static int close_with(int descriptor, int result)
{
	if (result < 0)
		return close_keeping_errno(descriptor);
	close(descriptor);
	return result;
}

static int open_resolving(int root, const char *path, uint64_t flags, uint64_t resolve)
{
	struct rl_open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RL_RESOLVE_IN_ROOT | RL_RESOLVE_NO_MAGICLINKS | resolve,
	};

	for (int tries = 0;; tries++) {
		int descriptor = rl_openat2(root, path, &how);
		/* EAGAIN: a rename somewhere in the system raced with ".."; openat2(2) says to try again. */
		if (descriptor >= 0 || errno != EAGAIN || tries == 64)
			return descriptor;
	}
}

int rl_open_in_root(int root, const char *path, uint64_t flags)
{
	return open_resolving(root, path, flags, 0);
}

/* Split `path` into its parent, opened beneath the root, and its last component, copied to `name`. Returns the parent's descriptor. */
static int open_parent(int root, const char *path, char name[NAME_MAX + 1])
{
	char parent[PATH_MAX];
	size_t end = strlen(path);

	while (end > 0 && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (end == start || end - start > NAME_MAX || start >= sizeof parent) {
		errno = end == start ? EINVAL : ENAMETOOLONG;
		return -1;
	}
	memcpy(name, path + start, end - start);
	name[end - start] = 0;
	memcpy(parent, path, start);
	parent[start] = 0;
	return rl_open_in_root(root, start ? parent : ".", O_PATH | O_DIRECTORY);
}

/* `path` leads over the symlink `name` at path[start..end), in the directory `parent`, to what is not there: put the link's content in its place. */
static int expand_link(int parent, const char *name, char path[PATH_MAX], size_t start, size_t end)
{
	char content[PATH_MAX];
	ssize_t length = readlinkat(parent, name, content, sizeof content);

	if (length < 0)
		return errno == EINVAL ? 0 : -1; /* no symlink: somebody has made the thing itself meanwhile */
	if (length > 0 && content[0] == '/')
		start = 0;
	size_t rest = strlen(path + end) + 1;
	if (start + (size_t)length + rest > PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memmove(path + start + length, path + end, rest);
	memcpy(path + start, content, (size_t)length);
	return 0;
}

static int make_file(int parent, const char *name)
{
	int file = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);

	return file < 0 ? -1 : close(file);
}

/* mkdir -p beneath the root, with an empty file at the end where `file`. Symlinks on the way are followed inside the root, also those to what is not there yet, as
 * /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf of many images. */
static int make_path(int root, const char *wanted, mode_t mode, int file)
{
	char path[PATH_MAX], name[NAME_MAX + 1];
	int links = 0;

	if (strlen(wanted) >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(path, wanted, strlen(wanted) + 1);
	for (size_t end = 1; end <= strlen(path); end++) {
		char next = path[end];

		if (path[end - 1] == '/' || (next && next != '/'))
			continue;
		int last_file = file && !next;
		path[end] = 0;
		int there = rl_open_in_root(root, path, O_PATH | (last_file ? 0 : O_DIRECTORY));
		int parent = there < 0 && errno == ENOENT ? open_parent(root, path, name) : -1;
		path[end] = next;
		if (there >= 0) {
			close(there);
			continue;
		}
		if (parent < 0)
			return -1;
		int made = last_file ? make_file(parent, name) : mkdirat(parent, name, mode);
		if (made < 0 && errno == EEXIST) {
			errno = ELOOP;
			made = links++ < 40 ? expand_link(parent, name, path, end - strlen(name), end) : -1;
			end = 0; /* from the start: what the link names is yet to be made */
		}
		if (close_with(parent, made) < 0)
			return -1;
	}
	return 0;
}

/* The descriptor that a mount goes onto; made where it is missing, as a directory or as an empty file. */
static int open_target(struct rl_child *child, const struct rl_op *op, int directory)
{
	const char *path = rl_text(child->plan, op, 1);
	uint64_t resolve = op->flags & RL_OP_NO_SYMLINKS ? RL_RESOLVE_NO_SYMLINKS : 0;
	int target = open_resolving(child->root, path, O_PATH, resolve);

	if (target >= 0 || errno != ENOENT || !(op->flags & RL_OP_CREATE))
		return target;
	if (make_path(child->root, path, 0755, !directory) < 0)
		return -1;
	return open_resolving(child->root, path, O_PATH, resolve);
}

int rl_do_propagation(struct rl_child *child, const struct rl_op *op)
{
	const char *path = rl_text(child->plan, op, 0);

	if (child->root < 0)
		return mount(NULL, path, NULL, (unsigned long)op->number[0], NULL);
	int target = rl_open_in_root(child->root, path, O_PATH);
	if (target < 0)
		return -1;
	struct fd_path name = fd_path(target);
	return close_with(target, mount(NULL, name.text, NULL, (unsigned long)op->number[0], NULL));
}

int rl_do_root(struct rl_child *child, const struct rl_op *op)
{
	const char *path = rl_text(child->plan, op, 0);

	/* pivot_root(2) wants a mount point. */
	if (op->flags & RL_OP_RECURSIVE && mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
		return -1;
	child->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return child->root < 0 ? -1 : 0;
}

int rl_do_mkdir(struct rl_child *child, const struct rl_op *op)
{
	return make_path(child->root, rl_text(child->plan, op, 0), (mode_t)op->number[0], 0);
}

int rl_do_mount(struct rl_child *child, const struct rl_op *op)
{
	const struct rl_plan *plan = child->plan;
	int target = open_target(child, op, 1);

	if (target < 0)
		return -1;
	struct fd_path name = fd_path(target);
	return close_with(target, mount(rl_text(plan, op, 0), name.text, rl_text(plan, op, 2), (unsigned long)op->number[0], rl_text(plan, op, 3)));
}

/* Change attributes (MOUNT_ATTR_*) or the propagation of the mount that `tree` is the root of. */
static int set_attributes(int tree, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
{
	struct rl_mount_attr attr = { .attr_set = set, .attr_clr = clear, .propagation = propagation };

	if (!set && !clear && !propagation)
		return 0;
	return rl_mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? RL_AT_RECURSIVE : 0), &attr);
}

/* A clone of the mount at `path`, attached nowhere. One of another mount namespace can only be taken there (open_tree(2)); it can be attached here. */
static int clone_tree(const char *path, const char *mount_namespace, unsigned flags)
{
	if (!mount_namespace)
		return rl_open_tree(AT_FDCWD, path, flags);
	int ours = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (ours < 0)
		return -1;
	int theirs = open(mount_namespace, O_RDONLY | O_CLOEXEC);
	if (theirs < 0)
		return close_keeping_errno(ours);
	int tree = close_with(theirs, setns(theirs, CLONE_NEWNS));
	if (tree == 0) {
		tree = rl_open_tree(AT_FDCWD, path, flags);
		int saved = errno;
		if (setns(ours, CLONE_NEWNS) < 0) /* neither here nor there: nothing can go on */
			_exit(125);
		errno = saved;
	}
	return close_with(ours, tree < 0 ? -1 : 0) < 0 ? -1 : tree;
}

int rl_do_bind(struct rl_child *child, const struct rl_op *op)
{
	const char *source = rl_text(child->plan, op, 0);
	struct stat status;

	int tree = clone_tree(source, rl_text(child->plan, op, 2),
			      RL_OPEN_TREE_CLONE | RL_OPEN_TREE_CLOEXEC | (op->flags & RL_OP_RECURSIVE ? RL_AT_RECURSIVE : 0));
	if (tree < 0)
		return -1;
	if (fstatat(tree, "", &status, AT_EMPTY_PATH) < 0)
		return close_keeping_errno(tree);
	/* Before it is attached: there is no instant at which the container could see a read-only mount writable. */
	if (set_attributes(tree, op->number[0], op->number[1], 0, 0) < 0 || set_attributes(tree, op->number[2], 0, 0, 1) < 0 ||
	    set_attributes(tree, 0, 0, op->number[3], 1) < 0)
		return close_keeping_errno(tree);
	int target = open_target(child, op, S_ISDIR(status.st_mode));
	if (target < 0)
		return close_keeping_errno(tree);
	struct stat place;
	if (fstatat(target, "", &place, AT_EMPTY_PATH) == 0 && !S_ISDIR(place.st_mode) != !S_ISDIR(status.st_mode)) {
		errno = S_ISDIR(place.st_mode) ? EISDIR : ENOTDIR; /* the kernel's EINVAL says less */
		close_keeping_errno(target);
		return close_keeping_errno(tree);
	}
	int moved = rl_move_mount(tree, "", target, "", RL_MOVE_MOUNT_F_EMPTY_PATH | RL_MOVE_MOUNT_T_EMPTY_PATH);
	return close_with(tree, close_with(target, moved));
}

int rl_do_symlink(struct rl_child *child, const struct rl_op *op)
{
	char name[NAME_MAX + 1];
	int parent = open_parent(child->root, rl_text(child->plan, op, 1), name);

	if (parent < 0)
		return -1;
	int made = symlinkat(rl_text(child->plan, op, 0), parent, name);
	if (made < 0 && errno == EEXIST)
		made = 0;
	return close_with(parent, made);
}

int rl_do_mask(struct rl_child *child, const struct rl_op *op)
{
	struct stat status;
	int target = rl_open_in_root(child->root, rl_text(child->plan, op, 0), O_PATH);

	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
	if (fstatat(target, "", &status, AT_EMPTY_PATH) < 0)
		return close_keeping_errno(target);
	struct fd_path name = fd_path(target);
	if (S_ISDIR(status.st_mode))
		return close_with(target, mount("tmpfs", name.text, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0k,mode=755"));
	/* The host's: that of the root may lie in a volume, where another container can put something else in its place (CVE-2025-31133). */
	int null = rl_open_tree(AT_FDCWD, "/dev/null", RL_OPEN_TREE_CLONE | RL_OPEN_TREE_CLOEXEC);
	if (null < 0 || set_attributes(null, RL_MOUNT_ATTR_RDONLY, 0, 0, 0) < 0) {
		if (null >= 0)
			close_keeping_errno(null);
		return close_keeping_errno(target);
	}
	int moved = rl_move_mount(null, "", target, "", RL_MOVE_MOUNT_F_EMPTY_PATH | RL_MOVE_MOUNT_T_EMPTY_PATH);
	return close_with(null, close_with(target, moved));
}

int rl_do_readonly(struct rl_child *child, const struct rl_op *op)
{
	const char *path = rl_text(child->plan, op, 0);
	int target = rl_open_in_root(child->root, path, O_PATH);

	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
	/* A mount of its own on the path, read-only with all that is mounted below. */
	int tree = rl_open_tree(target, "", AT_EMPTY_PATH | RL_OPEN_TREE_CLONE | RL_OPEN_TREE_CLOEXEC | RL_AT_RECURSIVE);
	if (tree < 0)
		return close_keeping_errno(target);
	if (set_attributes(tree, RL_MOUNT_ATTR_RDONLY, 0, 0, 1) < 0) {
		close_keeping_errno(tree);
		return close_keeping_errno(target);
	}
	/* The root itself cannot be covered: "/" would go on meaning what lies below. Its own mount is changed instead. */
	if (strcmp(path, "/") == 0) {
		close(tree);
		return close_with(target, set_attributes(target, RL_MOUNT_ATTR_RDONLY, 0, 0, 0));
	}
	int moved = rl_move_mount(tree, "", target, "", RL_MOVE_MOUNT_F_EMPTY_PATH | RL_MOVE_MOUNT_T_EMPTY_PATH);
	return close_with(tree, close_with(target, moved));
}

int rl_do_pivot(struct rl_child *child, const struct rl_op *op)
{
	(void)op;
	/* pivot_root(2), NOTES: with both arguments "." the old root ends up on top of the new one, and is then detached. */
	if (fchdir(child->root) < 0 || rl_pivot_root(".", ".") < 0)
		return -1;
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -1;
	close(child->root);
	child->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return child->root < 0 ? -1 : 0;
}

int rl_do_sysctl(struct rl_child *child, const struct rl_op *op)
{
	static const char prefix[] = "/proc/sys/";
	const char *key = rl_text(child->plan, op, 0), *value = rl_text(child->plan, op, 1);
	char path[256];
	size_t length = strlen(key);

	if (sizeof prefix + length > sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(path, prefix, sizeof prefix - 1);
	memcpy(path + sizeof prefix - 1, key, length + 1);
	int file = rl_open_in_root(child->root, path, O_WRONLY);
	if (file < 0)
		return -1;
	ssize_t written = write(file, value, strlen(value));
	return close_with(file, written < 0 ? -1 : 0);
}
