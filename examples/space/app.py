"""The demo as a Hugging Face Space: EfficientNet-Lite0, whose weights come with its package."""

from learnable_cam_plugin.cli.classifiers import default_classifier
from learnable_cam_plugin.demo import explainer, page

loaded = default_classifier()
demo = page(loaded, explainer(loaded))

if __name__ == "__main__":
    demo.launch()
