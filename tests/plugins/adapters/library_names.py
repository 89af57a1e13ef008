"""Which foreign attacks run on signals, by library, with parameters that keep them short; all others say why not."""

from __future__ import annotations

SHAPES = ((1, 187), (1, 9000), (48, 18))

RUN = {
    "torchattacks": {
        **dict.fromkeys(["BIM", "RFGSM", "EOTPGD", "TPGD", "PGD", "PGDRS", "PGDL2", "PGDRSL2"], "steps=2"),
        **dict.fromkeys(["MIFGSM", "NIFGSM", "SINIFGSM", "VMIFGSM", "VNIFGSM", "Jitter", "UPGD"], "steps=2"),
        **dict.fromkeys(["APGD", "APGDT", "FAB", "DeepFool", "SparseFool"], "steps=3"),
        **dict.fromkeys(["FGSM", "FFGSM", "GN"], ""),
        "AutoAttack": "steps=3,queries=20",
        "CW": "steps=10",
        "EADEN": "max_iterations=20,binary_search_steps=2",
        "EADL1": "max_iterations=20,binary_search_steps=2",
        "JSMA": "gamma=0.02",
        "OnePixel": "steps=2,popsize=4",
        "SPSA": "nb_sample=8",
        "Square": "n_queries=20",
        "VANILA": "",
    },
    "foolbox": {
        **dict.fromkeys(["LinfPGD", "L2PGD", "LinfAdamPGD", "L2AdamPGD", "LinfBasicIterativeAttack"], "steps=3"),
        **dict.fromkeys(["L2BasicIterativeAttack", "LinfAdamBasicIterativeAttack"], "steps=3"),
        **dict.fromkeys(["L2AdamBasicIterativeAttack", "MIFGSM", "L2MomentumIterativeFastGradientMethod"], "steps=3"),
        **dict.fromkeys(["DDNAttack", "LinfFMNAttack", "L2FMNAttack", "L1FMNAttack", "NewtonFoolAttack"], "steps=5"),
        **dict.fromkeys(["L2DeepFoolAttack", "LinfDeepFoolAttack", "VirtualAdversarialAttack"], "steps=3"),
        **dict.fromkeys(["FGSM", "FGM", "InversionAttack", "L2ContrastReductionAttack"], ""),
        **dict.fromkeys([f"L2Additive{kind}NoiseAttack" for kind in ("Gaussian", "Uniform")], ""),
        **dict.fromkeys([f"L2ClippingAwareAdditive{kind}NoiseAttack" for kind in ("Gaussian", "Uniform")], ""),
        **dict.fromkeys([f"L2RepeatedAdditive{kind}NoiseAttack" for kind in ("Gaussian", "Uniform")], "repeats=3"),
        **dict.fromkeys(
            [f"L2ClippingAwareRepeatedAdditive{kind}NoiseAttack" for kind in ("Gaussian", "Uniform")], "repeats=3"
        ),
        "LinfAdditiveUniformNoiseAttack": "",
        "LinfRepeatedAdditiveUniformNoiseAttack": "repeats=3",
        "BinarySearchContrastReductionAttack": "binary_search_steps=3",
        "LinearSearchContrastReductionAttack": "steps=5",
        "LinearSearchBlendedUniformNoiseAttack": "steps=5,directions=5",
        "SaltAndPepperNoiseAttack": "steps=5",
        "BoundaryAttack": "steps=5",
        "EADAttack": "steps=5,binary_search_steps=2",
        "L2CarliniWagnerAttack": "steps=5,binary_search_steps=2",
        "GenAttack": "steps=3,population=4",
        "HopSkipJumpAttack": "steps=1,initial_gradient_eval_steps=5",
    },
    "art": {
        **dict.fromkeys(["PGD", "ProjectedGradientDescentNumpy", "ProjectedGradientDescentPyTorch"], "max_iter=2"),
        **dict.fromkeys(["BasicIterativeMethod", "MomentumIterativeMethod", "DeepFool", "NewtonFool"], "max_iter=2"),
        **dict.fromkeys(["AutoProjectedGradientDescent", "AutoConjugateGradient"], "max_iter=3,nb_random_init=1"),
        "RescalingAutoConjugateGradient": "max_iter=3,nb_random_init=1",
        "FGM": "",
        "BoundaryAttack": "max_iter=2,num_trial=2,sample_size=4",
        "CarliniL0Method": "max_iter=2,binary_search_steps=2",
        "CarliniL2Method": "max_iter=2,binary_search_steps=2",
        "CarliniLInfMethod": "max_iter=2,largest_const=0.001",
        "ElasticNet": "max_iter=2,binary_search_steps=2",
        "HopSkipJump": "max_iter=1,max_eval=10,init_eval=5",
        "SaliencyMapMethod": "gamma=0.01",
        "SignOPTAttack": "max_iter=1,query_limit=50,k=4,num_trial=4",
        "TargetedUniversalPerturbation": "max_iter=2",
        "UniversalPerturbation": "max_iter=1",
        "ZOO": "max_iter=1,nb_parallel=8",
    },
}
AIMED = {"foolbox.GenAttack", "art.TargetedUniversalPerturbation"}
"""Attacks that run only with a target."""

REFUSED = {
    "torchattacks": {
        **dict.fromkeys(["DIFGSM", "TIFGSM", "PIFGSM", "PIFGSMPP"], "square images"),
        "Pixle": "images",
        "LGV": "data loader",
    },
    "foolbox": {
        **dict.fromkeys(["SpatialAttack", "GaussianBlurAttack"], "two dimensions"),
        **dict.fromkeys(["BinarizationRefinementAttack", "DatasetAttack"], "another"),
        **dict.fromkeys(["L0FMNAttack"], "L0"),
        **dict.fromkeys(["L1PGD", "L1AdamPGD", "L1BasicIterativeAttack", "L1AdamBasicIterativeAttack"], "L1"),
        **dict.fromkeys(["L1FastGradientAttack", "L1MomentumIterativeFastGradientMethod"], "L1"),
        "SparseL1DescentAttack": "L1",
        "PointwiseAttack": "misses",
        **dict.fromkeys([f"{norm}BrendelBethgeAttack" for norm in ("L0", "L1", "L2", "Linfinity")], "numba"),
    },
    "art": {
        **dict.fromkeys(["SquareAttack", "ShadowAttack"], "images"),
        **dict.fromkeys(["SimBA", "VirtualAdversarialMethod"], "probabilities"),
        "GeoDA": "NumPy",
        "Wasserstein": "Wasserstein",
        "AutoAttack": "multiprocess",
        "LowProFool": "importance",
        "SpatialTransformation": "images",
        "PixelAttack": "pixels",
        "ThresholdAttack": "pixels",
    },
}
"""A word of the sentence that each says on a lead of one row."""
