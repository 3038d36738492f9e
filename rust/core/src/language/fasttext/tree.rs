//! The Huffman tree of hierarchical softmax: a label's probability is a product of sigmoids.

use super::matrix::Matrix;
use super::LOG_OFFSET;

/// Children of each inner node; leaves are the labels, numbered before the inner nodes.
pub(super) struct Tree {
    num_leaves: usize,
    children: Vec<[u32; 2]>,
}

/// What a node counts before it has children; no corpus has as many examples.
const UNMADE: i64 = 1_000_000_000_000_000;

impl Tree {
    /// Merges the two rarest nodes until one is left. `None` if the counts do not descend far enough
    /// below 1e15 for that.
    pub fn new(counts: &[i64]) -> Option<Self> {
        let num_leaves = counts.len();
        let mut node_counts = vec![UNMADE; (2 * num_leaves).checked_sub(1)?];
        node_counts[..num_leaves].copy_from_slice(counts);
        let (mut leaves_left, mut next_node) = (num_leaves, num_leaves);
        let mut children = Vec::with_capacity(num_leaves - 1);
        for made in num_leaves..node_counts.len() {
            let mut pair = [0; 2];
            for child in &mut pair {
                let is_leaf = leaves_left > 0 && node_counts[leaves_left - 1] < node_counts[next_node];
                let node = if is_leaf { leaves_left - 1 } else { next_node };
                (leaves_left, next_node) =
                    (leaves_left - usize::from(is_leaf), next_node + usize::from(!is_leaf));
                if node >= made {
                    return None;
                }
                *child = node as u32;
            }
            node_counts[made] = node_counts[pair[0] as usize].checked_add(node_counts[pair[1] as usize])?;
            children.push(pair);
        }
        Some(Self { num_leaves, children })
    }

    /// Appends the probability of every label to `scores`, walking from the root, which is last.
    pub fn scores(&self, output: &Matrix, hidden: &[f32], nodes: &mut Vec<f32>, scores: &mut Vec<f32>) {
        nodes.clear();
        nodes.resize(self.num_leaves + self.children.len(), 0.0);
        for (index, [left, right]) in self.children.iter().enumerate().rev() {
            let right_share = 1.0 / (1.0 + (-output.dot_row(index, hidden)).exp());
            let log = nodes[self.num_leaves + index];
            nodes[*left as usize] = log + (1.0 - right_share + LOG_OFFSET).ln();
            nodes[*right as usize] = log + (right_share + LOG_OFFSET).ln();
        }
        scores.extend(nodes[..self.num_leaves].iter().map(|log| log.exp()));
    }
}
