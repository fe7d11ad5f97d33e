"""What the unpaired translators share: networks, the bridge, losses, the learner.

UNSB is Kim et al., "Unpaired image-to-image translation via neural Schrödinger bridge" (ICLR 2024); CUT is
Park et al., "Contrastive learning for unpaired image-to-image translation" (ECCV 2020). Images inside this
package are (N, C, H, W) in about [-1, 1]; A is the source domain (PAN, in every band), B the target (MS).

A step of SP-I2I, and where its lines live::

    A, B = data.draw(...)                       images of different scenes      learner.TranslationLearner.images
    i = one of T time indices                                                   learner.BridgeLearner.draw
    x = A                                       without gradient:               bridge.Bridge.chain
    repeat i times: x = lerp(x, G(x)) + noise
    f = G(x, i)                                 with gradient:                  networks.BridgeGenerator
    w = gate(f, i); shown = Rec(w * Pyr(f))     what D sees of f                sp_i2i.Gate, SPLearner.show
    D <- (D(shown)^2 + (D(B) - 1)^2) / 2        D, D's optimiser                losses.discriminator_loss
    E <- energy of pairs (x, f)                 unless entropy=off              losses.energy_loss
    L =  lambda_gan (D(shown) - 1)^2            adversary                       losses.lsgan
       + lambda_sb (tau |x - f|^2 - entropy)    transport cost                  losses.bridge_loss
       + lambda_sp sum_j l_j |P_j(f) - P_j(A)|  tie to the source               sp_i2i.consistency_loss
    G, gate <- L                                their optimisers, running mean  learner.TranslationLearner.update

UNSB is the same without gate and tie, with lambda_nce times a contrastive loss (losses.patch_nce) on G's features;
CUT has no bridge either (cut.CUTLearner). ``options`` has what can be chosen, ``base`` the way from DN and back,
``selection`` the score by which a state is kept, ``schedule`` the course of the learning rate, ``presets`` budgets.
"""
