/* linalg/crew.h - inside of lt_team_hold: how one thread calls the others without a parallel region. */
#ifndef LT_LINALG_CREW_H
#define LT_LINALG_CREW_H

#include "linalg/team.h"

struct lt_crew *lt_crew_create(int threads); /* lt_free; NULL: out of memory */

#endif
