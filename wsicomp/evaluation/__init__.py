"""What compression costs: fidelity, the frozen classifier, bootstrap intervals, reports and gates.

    StudyData (tiles, labels, groups) --------------+
    FrozenClassifier                                |
    Reconstruction, Reconstruction, ...  --> study.evaluate --> Report --> report.json, report.csv, plots, gate
                                              |        |
                                         fidelity   metrics.classification, metrics.bootstrap

Arrays come in and numbers go out: nothing here reads a slide, runs a codec or trains a network.
"""
