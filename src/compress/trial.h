/* SPDX-License-Identifier: Apache-2.0 */
/* compress/trial.h - trying ranks: every module is decomposed once, then any vector of ranks is a model to be scored;
 * private to the room.
 *
 * The factors of one fit at the largest rank hold those of every smaller one (U's columns are nested; with a left
 * metric those of R⁻¹U, and P_T W P_S is U's with B's first rows projected on the top inputs), so a try costs a copy
 * and a run of the probe. */
#ifndef LT_COMPRESS_TRIAL_H
#define LT_COMPRESS_TRIAL_H

#include "compress/batch.h"
#include "compress/method.h"
#include "compress/module_weight.h"
#include "compress/targets.h"

typedef struct lt_trial lt_trial;
/* Factors are kept as f32. */
lt_status lt_trial_create(lt_trial **out, const lt_plan_in *in, const lt_targets *t, const lt_lowrank_how *how,
                          lt_affine affine, lt_err *err);
void lt_trial_destroy(lt_trial *t);
size_t lt_trial_largest(const lt_trial *t, size_t module); /* rank that was decomposed: break-even */
/* Mean NLL with these ranks (0: as it is); the model itself where all are 0. Equal vectors in a row are not run twice.
 */
lt_status lt_trial_score(lt_trial *t, double *nll, const size_t *rank, lt_err *err);
/* With one module replaced by a dense weight [m, d], all others as they are. */
lt_status lt_trial_score_dense(lt_trial *t, double *nll, size_t module, const double *w, lt_err *err);
size_t lt_trial_runs(const lt_trial *t);

#endif
