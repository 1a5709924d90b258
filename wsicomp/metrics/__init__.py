"""Measures of pictures, of classifiers and of codecs: pure functions of arrays, which read and write nothing.

    distortion       squared errors, PSNR, and the squared error of luma and chroma apart
    similarity       SSIM and MS-SSIM
    classification   scores of logits against labels, AUC, Youden's threshold
    bootstrap        intervals of those scores, by resampling whole groups
    bd               Bjontegaard delta rate between two codecs

Every other room may use these; they use none.
"""
