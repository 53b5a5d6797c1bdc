// SPDX-License-Identifier: GPL-2.0
/* What nouveau has, as it is. */
#define CONFIG_DRM_NOUVEAU_SVM 1
#include "../../../drivers/gpu/drm/nouveau/nouveau_dmem.c"
#include "card.h"
#include <linux/module.h>

CARD_DRIVER("in C", true);
