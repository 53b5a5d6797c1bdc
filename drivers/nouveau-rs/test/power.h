/* SPDX-License-Identifier: GPL-2.0 */
/* Who wakes the card up: included before everything else. */
#ifndef __NOUVEAU_CARD_POWER_H__
#define __NOUVEAU_CARD_POWER_H__

#include <linux/pm_runtime.h>

int card_request_resume(struct device *dev);
#define pm_request_resume card_request_resume

#endif
