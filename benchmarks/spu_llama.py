# ruff: noqa
"""Our own team's prototype, kept as the peer figures were first made with it; `address` (relays) and `heard` (a party that dies) were added.

Peer baseline: PUMA's LLaMA on SecretFlow-SPU 0.9.5, ABY3/FM64, three OS processes over loopback.
usage: spu_llama.py SHAPE MODE N [PAST]   MODE: prefill (no cache, PUMA style) | decode (1 new token, KV cache of PAST)
"""

import sys, time, json, os, resource, tempfile, multiprocessing as mp, pickle, queue

TMP = os.environ.get("SPU_TMP", tempfile.gettempdir())
SHAPES = dict(  # dim, ffn, layers, heads, kv, vocab (0 = no embedding / head)
    s260k=(64, 172, 5, 8, 4, 512),
    s15m=(288, 768, 6, 6, 6, 32000),
    smol1=(576, 1536, 1, 9, 3, 0),
    smol=(576, 1536, 30, 9, 3, 49152),
    l7b1=(4096, 11008, 1, 32, 32, 0),
    tl1=(2048, 5632, 1, 32, 4, 0),
)


def build(shape, mode, n, past):
    import jax, jax.numpy as jnp, numpy as np

    d, ff, L, H, KV, V = SHAPES[shape]
    hd = d // H
    kvd = KV * hd
    r = np.random.default_rng(0)
    g = lambda *s: (r.standard_normal(s) / np.sqrt(s[0])).astype(np.float32)
    P = dict(
        layers=[
            dict(
                n1=np.ones(d, np.float32),
                n2=np.ones(d, np.float32),
                wq=g(d, d),
                wk=g(d, kvd),
                wv=g(d, kvd),
                wo=g(d, d),
                w1=g(d, ff),
                w3=g(d, ff),
                w2=g(ff, d),
            )
            for _ in range(L)
        ]
    )
    if V:
        P["emb"] = (r.standard_normal((V, d)) * 0.5).astype(np.float32)
        P["nf"] = np.ones(d, np.float32)
        P["cls"] = g(d, V)
    nn = n if mode == "prefill" else 1
    pos0 = 0 if mode == "prefill" else past
    inv = 1.0 / (10000.0 ** (np.arange(0, hd, 2) / hd))
    ang = (pos0 + np.arange(nn))[:, None] * inv[None]
    co, si = np.cos(ang)[:, None].astype(np.float32), np.sin(ang)[:, None].astype(np.float32)

    def rope(a):
        a0, a1 = a[..., 0::2], a[..., 1::2]
        return jnp.concatenate([a0 * co - a1 * si, a0 * si + a1 * co], -1)

    def norm(x, w):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * w

    def softmax(x):
        x = x - jnp.max(x, -1, keepdims=True)
        b = x > -14
        e = jnp.exp(x) * b
        return e / jnp.sum(e, -1, keepdims=True)

    def silu(x):
        b0 = x < -8.0
        b1 = x < -4.0
        b2 = x > 4.0
        b3 = b1 ^ b2 ^ True
        b4 = b0 ^ b1
        x2 = jnp.square(x)
        x4 = jnp.square(x2)
        x6 = x2 * x4
        s1 = -0.0055465625580307 * x2 - 0.0819767021525476 * x - 0.3067541139982155
        s2 = 0.0002743776353465 * x6 - 0.011113046708173 * x4 + 0.2281430841728270 * x2 + 0.5 * x + 0.0085064025895951
        return b2 * x + b4 * s1 + b3 * s2

    mask = (
        np.where(np.arange(nn + pos0)[None] <= pos0 + np.arange(nn)[:, None], 0.0, -1e4).astype(np.float32)
        if mode == "prefill"
        else None
    )

    def fwd(P, inp, cache):
        x = jnp.matmul(inp, P["emb"]) if V else inp  # inp: client-shared one-hot (V) or hidden state
        newc = []
        for l in range(L):
            p = P["layers"][l]
            h = norm(x, p["n1"])
            q = rope((h @ p["wq"]).reshape(nn, H, hd))
            k = rope((h @ p["wk"]).reshape(nn, KV, hd))
            v = (h @ p["wv"]).reshape(nn, KV, hd)
            if cache is not None:
                k = jnp.concatenate([cache[l][0], k])
                v = jnp.concatenate([cache[l][1], v])
            newc.append((k, v))
            K = jnp.repeat(k, H // KV, 1)
            Vv = jnp.repeat(v, H // KV, 1)
            s = jnp.einsum("nhd,thd->hnt", q, K) * np.float32(1 / np.sqrt(hd))
            if mask is not None:
                s = s + mask
            a = jnp.einsum("hnt,thd->nhd", softmax(s), Vv).reshape(nn, d)
            x = x + a @ p["wo"]
            h = norm(x, p["n2"])
            x = x + (silu(h @ p["w1"]) * (h @ p["w3"])) @ p["w2"]
        if V:
            return norm(x[-1:], P["nf"]) @ P["cls"]
        return x

    if V:
        ids = r.integers(0, V, nn)
        inp = np.eye(V, dtype=np.float32)[ids]
    else:
        inp = r.standard_normal((nn, d)).astype(np.float32)
    cache = (
        None
        if mode == "prefill"
        else [(g(past, KV, hd) * np.float32(np.sqrt(past)), g(past, KV, hd) * np.float32(np.sqrt(past))) for _ in range(L)]
    )
    return fwd, P, inp, cache


def address(rank, i, ports):
    # through relays: every party listens on its own port and dials the others' relays
    given = json.loads(os.environ.get("SPU_PORTS", "null"))
    if given is None:
        return ports + i
    return given["own" if i == rank else "relay"][i]


def heard(q, ps):
    # the next message; a party that died (memory) takes the others with it, else all would wait for ever
    while True:
        try:
            return q.get(timeout=5)
        except queue.Empty:
            if dead := [p.exitcode for p in ps if p.exitcode]:
                [p.kill() for p in ps]
                [p.join() for p in ps]
                sys.exit(f"a party ended with {dead}")


def party(rank, ports, args, q, reps):
    os.environ["JAX_PLATFORMS"] = "cpu"
    import numpy as np, jax, spu, spu.api as api, spu.libspu as l, spu.utils.frontend as fe

    fwd, P, inp, cache = build(*args)
    cfg = l.RuntimeConfig(protocol=l.ProtocolKind.ABY3, field=l.FieldType.FM64)
    cfg.fxp_exp_mode = (
        l.RuntimeConfig.ExpMode.EXP_TAYLOR
        if hasattr(l.RuntimeConfig, "ExpMode") and hasattr(l.RuntimeConfig.ExpMode, "EXP_TAYLOR")
        else cfg.fxp_exp_mode
    )
    cfg.fxp_exp_iters = 5
    cfg.enable_pphlo_profile = rank == 0
    flat, _ = jax.tree_util.tree_flatten(((P, inp, cache), {}))
    names = [f"in{i}" for i in range(len(flat))]
    copts = l.CompilerOptions()
    copts.enable_optimize_denominator_with_broadcast = True
    ex, out = fe.compile(
        fe.Kind.JAX,
        fwd,
        (P, inp, cache),
        {},
        names,
        [l.Visibility.VIS_SECRET] * len(flat),
        lambda o: [f"out{i}" for i in range(len(o))],
        copts=copts,
    )
    l.logging.setup_logging() if hasattr(l.logging, "setup_logging") else None
    desc = l.link.Desc()
    for i in range(3):
        desc.add_party(f"id{i}", f"127.0.0.1:{address(rank, i, ports)}")
    desc.recv_timeout_ms = 3600000
    lk = l.link.create_brpc(desc, rank)
    io = api.Io(3, cfg)
    # deterministic sharing is not possible through the API: rank 0 makes shares and ships them on disk
    if rank == 0:
        for i, x in enumerate(flat):
            sh = io.make_shares(np.asarray(x), l.Visibility.VIS_SECRET)
            for j in (1, 2):
                pickle.dump((sh[j].meta, list(sh[j].share_chunks)), open(f"{TMP}/sh_{ports}_{i}_{j}", "wb"))
            if i == 0:
                rt = api.Runtime(lk, cfg)
            rt.set_var(names[i], sh[0])
            del sh
        q.put(("shared",))
        open(f"{TMP}/sh_{ports}_ok", "w").write("1")
    else:
        rt = api.Runtime(lk, cfg)
        while not os.path.exists(f"{TMP}/sh_{ports}_ok"):
            time.sleep(0.1)
        for i in range(len(flat)):
            f = f"{TMP}/sh_{ports}_{i}_{rank}"
            m, c = pickle.load(open(f, "rb"))
            s = l.Share()
            s.meta = m
            s.share_chunks = c
            rt.set_var(names[i], s)
            os.remove(f)
    for rep in range(reps):
        lk.barrier() if hasattr(lk, "barrier") else None
        st0 = lk.get_statistics() if hasattr(lk, "get_statistics") else None
        t = time.perf_counter()
        rt.run(ex)
        dt = time.perf_counter() - t
        st1 = lk.get_statistics() if hasattr(lk, "get_statistics") else None
        q.put(
            (
                "t",
                rank,
                rep,
                dt,
                (
                    st1.sent_bytes - st0.sent_bytes,
                    st1.sent_actions - st0.sent_actions,
                    st1.recv_bytes - st0.recv_bytes,
                    st1.recv_actions - st0.recv_actions,
                )
                if st1
                else None,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            )
        )
    o = rt.get_var("out0")
    q.put(("o", rank, pickle.dumps((o.meta, list(o.share_chunks)))))
    time.sleep(1)


if __name__ == "__main__":
    shape, mode, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    past = int(sys.argv[4]) if len(sys.argv) > 4 else 16
    reps = int(os.environ.get("REPS", "3"))
    ports = 20000 + os.getpid() % 20000
    mp.set_start_method("spawn")
    q = mp.Queue()
    ps = [mp.Process(target=party, args=(r, ports, (shape, mode, n, past), q, reps)) for r in range(3)]
    [p.start() for p in ps]
    outs = {}
    T = {}
    while len(outs) < 3:
        m = heard(q, ps)
        if m[0] == "t":
            T.setdefault(m[2], {})[m[1]] = m[3:]
        if m[0] == "o":
            outs[m[1]] = pickle.loads(m[2])
    [p.join(20) for p in ps]
    import numpy as np, jax, spu.api as api, spu.libspu as l

    cfg = l.RuntimeConfig(protocol=l.ProtocolKind.ABY3, field=l.FieldType.FM64)
    io = api.Io(3, cfg)
    sh = []
    for r in range(3):
        s = l.Share()
        s.meta, s.share_chunks = outs[r]
        sh.append(s)
    y = io.reconstruct(sh)
    fwd, P, inp, cache = build(shape, mode, n, past)
    ref = np.asarray(fwd(P, inp, cache))
    for rep in sorted(T):
        print(rep, {r: (round(T[rep][r][0], 3), T[rep][r][1], T[rep][r][2] // 1024) for r in sorted(T[rep])})
    wall = sorted(max(v[0] for v in T[rep].values()) for rep in T)
    last = T[max(T)]
    print(
        json.dumps(
            dict(
                shape=shape,
                mode=mode,
                n=n,
                past=past,
                median_s=wall[len(wall) // 2],
                all=wall,
                sent_bytes={r: last[r][1][0] for r in last} if last[0][1] else None,
                sent_actions={r: last[r][1][1] for r in last} if last[0][1] else None,
                peak_mb={r: last[r][2] // 1024 for r in last},
                maxerr=float(np.abs(y - ref).max()),
                ref_std=float(ref.std()),
                argmax_agree=bool((y.argmax(-1) == ref.argmax(-1)).all()),
            )
        )
    )
    for f in os.listdir(TMP):
        if f.startswith(f"sh_{ports}"):
            os.remove(os.path.join(TMP, f))
