/* whiteouts.h: how a layer hides what is below it: by names in its archive (image-spec, layer.md), by marks on disk (unpack.h). */
#ifndef RL_WHITEOUTS_H
#define RL_WHITEOUTS_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fault.h"

struct rl_whiteouts {
	struct rl_fault *fault;
	bool as_files; /* rl_unpack_options.whiteout_files */
	bool files_made;
};

enum rl_name_kind { RL_NAME_FILE, RL_NAME_WHITEOUT, RL_NAME_OPAQUE, RL_NAME_METADATA };

/* What the name (a canonical path) of an entry makes of it: enum rl_name_kind, or -1 where no layer may have it. */
int rl_kind_of_name(struct rl_fault *fault, const char *path);

const char *rl_last_component(const char *path);

/* Whether a file is a whiteout on disk. */
bool rl_is_whiteout(const struct stat *status);

/* Have an entry `.wh.NAME` hide NAME in the directory `parent`. */
int rl_make_whiteout(struct rl_whiteouts *whiteouts, int parent, const char *entry);

/* Remove the file that is the whiteout of `name`, as `name` itself comes; whether there was one. (A device node is in the way, and is replaced as such.) */
bool rl_drop_whiteout_file(const struct rl_whiteouts *whiteouts, int parent, const char *name);

/* Have the directory `name` hide what lower layers have in it. */
int rl_mark_opaque(struct rl_whiteouts *whiteouts, int parent, const char *name);

#endif
