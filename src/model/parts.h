/* SPDX-License-Identifier: Apache-2.0 */
/* model/parts.h - the parts of a fused matrix as linears of their own; private to the model room.
 *
 * A part is a view of its rows (of its columns, where the matrix is stored [in, out]): nothing is copied but biases
 * whose parts alternate. Its module is "<module>#<part>"; its tensors bear the names they get once it is stored apart,
 * "<module>.<part>.weight". */
#ifndef LT_MODEL_PARTS_H
#define LT_MODEL_PARTS_H

#include "model/model.h"

/* Gives l, which stands at `home`, the layout of its row, with the part views where it is one matrix. Memory is
 * the arena's. A copy of *l elsewhere has no parts: they are those of what stands at home. */
lt_status lt_parts_make(lt_linear *l, const lt_linear *home, const lt_map_row *row, const lt_config *c,
                        const lt_layer_config *lc, lt_arena *arena, lt_err *err);
/* All views of m look again at what its linears hold now: for whoever has put another weight in place. */
void lt_parts_refresh(lt_model *m);
/* "<module>.<part>" of a view named "<module>#<part>": how it is stored apart. */
bool lt_part_path(char *buf, size_t cap, const char *module, const char *part);

#endif
