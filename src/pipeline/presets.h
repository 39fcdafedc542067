/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/presets.h - the recipes of papers: every published value as the option that says it.
 *
 * `--preset NAME` gives options that were not given the preset's value; what was given stays and is listed in the
 * result as a deviation, beside those that the row itself names. */
#ifndef LT_PIPELINE_PRESETS_H
#define LT_PIPELINE_PRESETS_H

#include "pipeline/command.h"

typedef struct lt_preset_value {
    const char *option, *value;
} lt_preset_value; /* "param" repeats: "alpha=0.5" */
typedef struct lt_method_preset {
    const char *name, *summary, *source;
    const lt_preset_value *values; /* ended by a NULL option; those that a verb has no row for are not its business */
    const char *const *deviations; /* where lathe differs whatever is given; NULL-terminated */
} lt_method_preset;
extern const lt_method_preset lt_method_presets[]; /* ended by a NULL name */

/* Puts the values into options, where the verb takes presets and one is named. LT_EUSAGE: an unknown name. */
lt_status lt_presets_merge(json_t *options, const lt_command *command, lt_err *err);
/* {"name", "source", "deviations": [{"option", "published", "used"} | text]}; NULL: no preset was named. */
json_t *lt_presets_report(const lt_args *args, const lt_command *command);

#endif
