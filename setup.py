"""What pyproject.toml cannot say: the folder conf beside the package is shipped inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["p_rnn", "p_rnn.*"]), "p_rnn.conf"],
    package_dir={"p_rnn.conf": "conf"},
    package_data={"p_rnn.conf": ["**/*.yaml"], "p_rnn.fast.native": ["*.cpp", "*.h"]},
)
