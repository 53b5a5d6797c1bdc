// SPDX-License-Identifier: GPL-2.0
/* What takes its place. */
#define CONFIG_DRM_NOUVEAU_SVM 1
#include "nouveau_dmem.h"
#include "card.h"
#include <linux/module.h>

CARD_DRIVER("in Rust", false);
