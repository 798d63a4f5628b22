#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace fathom::trainer {

// What a run's bits depend on and a resume may have changed (docs/numerics.md): model, data,
// optimizer, batch, numerics, device and program version; with numerics.mode FAST the layout too.
// One entry for each field that differs between the run that wrote a checkpoint and this one, e.g.
// "optimizer.lr 0.003 -> 0.001"; a config that this version cannot read is one difference.
std::vector<std::string> changed_bit_choices(const CheckpointIdentity& stored,
                                             const CheckpointIdentity& current);

// Those of model.yarn alone, none where it is off in both: a checkpoint's weights may be taken with
// other rotary frequencies, which is how a context is extended, but compute something else then.
std::vector<std::string> changed_yarn(const CheckpointIdentity& stored,
                                      const CheckpointIdentity& current);

}  // namespace fathom::trainer
