#pragma once

#include <string>
#include <vector>

namespace fathom::trainer {

// Sorts published names in the order in which a forward pass comes to them, which no layout
// changes: embedding, layers 0 to num_layers - 1, final norm, head, then the modules of multi-token
// prediction (layers num_layers and up), and within a layer as its blocks use them. Experts go by
// number; names that are not known come last among their neighbours, by letters.
void sort_in_forward_order(std::vector<std::string>& keys, int num_layers);

}  // namespace fathom::trainer
