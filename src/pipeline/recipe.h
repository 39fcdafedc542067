/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/recipe.h - a recipe (docs/recipes.md) as the jobs that it stands for.
 *
 * A step is a verb with options; a matrix repeats steps for every combination of its axes. A step is repeated only over
 * the axes that it names, itself or through the steps that it uses: what does not differ runs once. */
#ifndef LT_PIPELINE_RECIPE_H
#define LT_PIPELINE_RECIPE_H

#include "core/hash.h"
#include "pipeline/command.h"

/* In the folder of the results: which jobs are of the recipe (docs/recipes.md). */
#define LT_RECIPE_NAME "recipe.json"
/* "OUT/cell/step": beside it, with this behind it, lies the record of the job; lt_free. */
#define LT_RECORD_END ".step.json"
char *lt_job_base(const char *out, const char *cell, const char *step);

typedef struct lt_job {
    const char *step; /* borrowed from the recipe */
    json_t *axes;     /* {"keep": 0.8}: what it is repeated over */
    char *cell;       /* "keep=0.8"; "": nothing */
    const lt_command *verb;
    json_t *options; /* resolved, output among them */
    char *base;      /* lt_job_base */
    char *output;    /* NULL: the verb makes none */
    size_t *needs, n_needs;
    bool wanted; /* by this shard */
    char key[LT_HASH_HEX];
} lt_job;

typedef struct lt_recipe {
    json_t *root;
    const char *name; /* for messages */
    lt_job *job;      /* in the order in which they can run */
    size_t n;
} lt_recipe;

typedef struct lt_recipe_opts {
    const char *out;             /* folder for everything */
    const char *const *set;      /* [n_set] "a.b=value": the value as YAML, a step by its name */
    size_t n_set, shard, shards; /* shard of shards, from 1 */
    json_t *lines; /* of the file (io/yaml.h), for messages; what --set changes loses its own. NULL: none */
} lt_recipe_opts;
/* Everything is checked, verbs and options too, before anything runs. LT_EDATA and LT_EUSAGE name file,
 * line, step and option, and the nearest right name. */
lt_status lt_recipe_parse(lt_recipe *r, json_t *root, const char *name, const lt_recipe_opts *o, lt_err *err);
void lt_recipe_clear(lt_recipe *r); /* takes root too, also after a failure */
/* The keys of all jobs: what decides their results, by content. Files are read. */
lt_status lt_recipe_keys(lt_recipe *r, lt_err *err);

#endif
