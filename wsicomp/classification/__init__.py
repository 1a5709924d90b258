"""Frozen classifiers of tiles: how one is loaded, asked, and made the guard of a store's floor.

    name, .safetensors or .onnx --> frozen.choose_classifier --> tiles to logits --> evaluation scores them
                                                                        |
                                                                     guard --> a floor that keeps its predictions

Nothing here trains, scores or encodes.
"""
