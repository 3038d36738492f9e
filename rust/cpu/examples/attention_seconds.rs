use std::time::Instant;
use triptych_cpu::attention::*;
use triptych_cpu::Element;
fn time<E: Element>(name: &str, len: usize, docs: usize, heads: usize, dim: usize, threads: usize) {
    let p = Problem { boundaries: (0..=docs).map(|d| d * len).collect(), heads, kv_heads: heads, head_dim: dim, causal: true, window: None, scale: 0.125 };
    let n = len * docs * heads * dim;
    let (q, k, v, u) = (vec![E::default(); n], vec![E::default(); n], vec![E::default(); n], vec![E::default(); n]);
    let mut o = vec![E::default(); n]; let mut l = vec![0.0; len * docs * heads];
    let (mut a, mut b, mut c) = (o.clone(), o.clone(), o.clone());
    let (mut f, mut g) = (f64::MAX, f64::MAX);
    for _ in 0..12 {
        let t = Instant::now();
        forward(&p, Inputs { q: &q, k: &k, v: &v }, Output { mixed: &mut o, log_sums: &mut l }, threads);
        f = f.min(t.elapsed().as_secs_f64());
        let t = Instant::now();
        backward(&p, Inputs { q: &q, k: &k, v: &v }, Given { mixed: &o, log_sums: &l, upstream: &u }, Gradients { q: &mut a, k: &mut b, v: &mut c }, threads);
        g = g.min(t.elapsed().as_secs_f64());
    }
    println!("{name} forward {:.2} ms, backward {:.2} ms", f * 1e3, g * 1e3);
}
fn main() {
    let t = std::env::args().nth(1).map_or(1, |x| x.parse().unwrap());
    time::<u16>("bf16", 512, 2, 6, 64, t);
    time::<f32>("fp32", 512, 2, 6, 64, t);
}
