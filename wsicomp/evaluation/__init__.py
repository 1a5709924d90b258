"""What compression costs: fidelity, a frozen classifier's scores with their intervals, reports, figures and gates.

    LabelledTiles (tiles, labels, groups) ----------+
    FrozenClassifier                                |
    Reconstruction, Reconstruction, ...  --> study.evaluate --> Report --> report.json, report.csv, plots, gate
       |                                      |        |
    reconstruct, classical               fidelity   metrics.classification, metrics.bootstrap

    store, slide --> against --> what each level lost, glass included

Nothing here trains a network.
"""
